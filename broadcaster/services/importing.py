"""People from a CSV: a million rows in bounded memory, every bad row named, all or nothing.

First everything is checked and nothing changed; what is good goes to a file, as it is to be written. Then that file is
written slice by slice at the next revision, which nobody reads yet, under the directory's import lease; moving the revision
makes all of it true at once. What an import that died has written is invisible, and taken back by whoever changes the
directory next.
"""

import csv
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import structlog
from sqlalchemy import Connection
from uuid_utils import uuid7

from broadcaster.domain.channel import ChannelSet
from broadcaster.domain.errors import Invalid, Problem, Unavailable
from broadcaster.domain.messages import Address
from broadcaster.services.directory import clean_up, contact_row, parse_address
from broadcaster.store import directory as store
from broadcaster.store.database import Database, read_clock
from broadcaster.store.tables import contacts, group_members, recipient_tags, recipients

log = structlog.get_logger(__name__)

#: Rows in one transaction: SQLite's one write lock is not held for long; PostgreSQL gains from larger slices.
SLICE: Final = {"sqlite": 1_000, "postgresql": 5_000}
LEASE_MS: Final = 60_000
LISTED: Final = 1_000  # bad rows that are listed; all are counted
LONGEST_FIELD: Final = 1_000
PROGRESS_EVERY: Final = 5_000
_ADDRESSES: Final = {"phone": "sms", "slack": "slack"}
_FIXED: Final = ("name", "external_id", "groups", *_ADDRESSES)

_UNREADABLE: Final = re.compile("[\udc80-\udcff]")  # what was no UTF-8, as Python keeps it

csv.field_size_limit(128 * 1024)


class ImportRefused(Problem):
    """Nothing was changed; ``extra`` has every bad row."""

    status, slug, title = 422, "import-refused", "The file has errors; nothing was changed"


@dataclass(frozen=True, slots=True)
class BadRow:
    """``line`` is the physical line in the file, the header's is 1; ``column`` is None where the whole row is bad."""

    line: int
    column: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Progress:
    """``phase``: check or write. ``total``: rows in the file, once they are counted."""

    phase: str
    rows: int
    total: int | None


@dataclass(slots=True)
class Result:
    """What an import did, or with ``dry_run`` would do (then created and updated are not told apart)."""

    rows: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    errors_total: int = 0
    errors: list[BadRow] = field(default_factory=list)
    dry_run: bool = False
    revision: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def bad(self, row: BadRow) -> None:
        self.errors_total += 1
        if len(self.errors) < LISTED:
            self.errors.append(row)


@dataclass(frozen=True, slots=True)
class Options:
    """``skip_bad``: import the good rows. ``update``: a known external_id changes that person; else it is an error."""

    dry_run: bool = False
    skip_bad: bool = False
    update: bool = True


@dataclass(frozen=True, slots=True)
class Columns:
    """The file's header, and what its columns mean."""

    names: tuple[str, ...]
    addresses: tuple[tuple[str, str], ...]  # column, channel
    tags: tuple[tuple[str, str], ...]  # column, key
    groups: bool  # whether it has this column; what the file has no column for stays as it is

    @classmethod
    def of(cls, names: Sequence[str]) -> "Columns":
        addresses = tuple((column, channel) for column, channel in _ADDRESSES.items() if column in names)
        tags = tuple((column, column.removeprefix("tag:")) for column in names if column not in _FIXED)
        return cls(tuple(names), addresses, tags, "groups" in names)


class Row(NamedTuple):
    """One good row. It waits in a file, as JSON; a tuple, for there are a million."""

    line: int
    name: str
    external_id: str | None
    addresses: Sequence[tuple[str, str, str, str]]  # channel; an Address's value, identity, masked
    groups: Sequence[str]
    tags: Sequence[tuple[str, str]]  # key, value


class Importer:
    """One import at a time; other changes of the directory wait for it (503 with Retry-After)."""

    def __init__(self, database: Database, channels: ChannelSet) -> None:
        self._database = database
        self._channels = channels

    def run(self, file: Path, options: Options) -> Iterator[Progress | Result]:
        """Progress, then one Result. Raises ImportRefused, Invalid (no such header), Unavailable (another import)."""
        result = Result(dry_run=options.dry_run)
        with reading(file) as (reader, columns), tempfile.TemporaryFile("w+", encoding="utf-8", dir=file.parent) as good:
            rows: list[Row] = []
            for row in self._rows(reader, columns, result):
                if isinstance(row, Progress):
                    yield row
                elif not options.dry_run:
                    rows.append(row)
                if len(rows) == SLICE[self._database.dialect]:
                    _keep(good, rows)
                    rows = []
            _keep(good, rows)
            if result.errors_total and not options.skip_bad:
                raise ImportRefused(f"{result.errors_total} bad rows; nothing was changed.", **result.as_dict())
            if not options.dry_run:
                good.seek(0)
                yield from self._write_all(good, file.parent, columns, result, options)
        yield result

    # ---- checking ----------------------------------------------------------------------------------------------

    def _rows(self, reader: Any, columns: Columns, result: Result) -> Iterator[Row | Progress]:
        """Every good row; bad ones go to ``result``. Progress now and then."""
        seen: set[int] = set()
        before = reader.line_num
        while True:
            line = before + 1
            try:
                fields = next(reader, None)
            except csv.Error as error:
                result.rows += 1
                result.bad(BadRow(line, None, f"cannot be read as CSV: {error}"))
                # What comes after cannot be told apart any more: not even the good rows may be taken.
                raise ImportRefused("The file cannot be read to its end; nothing was changed.", **result.as_dict()) from None
            before = reader.line_num
            if fields is None:
                return
            if not fields:
                continue  # an empty line
            result.rows += 1
            good = self._row(line, columns, fields, seen)
            if isinstance(good, BadRow):
                result.bad(good)
            else:
                yield good
            if result.rows % PROGRESS_EVERY == 0:
                yield Progress("check", result.rows, None)

    def _row(self, line: int, columns: Columns, fields: Sequence[str], seen: set[int]) -> Row | BadRow:
        if len(fields) != len(columns.names):
            return BadRow(line, None, f"has {len(fields)} fields; the header has {len(columns.names)}")
        if _fault("".join(fields)):  # all at once: hardly any row has one
            for column, raw in zip(columns.names, fields, strict=True):
                fault = _fault(raw)
                if fault:
                    return BadRow(line, column, fault)
        values = dict(zip(columns.names, map(str.strip, fields), strict=True))
        if not values["name"]:
            return BadRow(line, "name", "is empty")
        external_id = values.get("external_id") or None
        if external_id is not None:
            mark = hash(external_id)
            if mark in seen:
                return BadRow(line, "external_id", "stands in the file twice")
            seen.add(mark)
        addresses = []
        for column, channel in columns.addresses:
            if values[column]:
                try:
                    address = parse_address(self._channels, channel, values[column])
                except Invalid as error:
                    return BadRow(line, column, error.detail.partition(": ")[2] or error.detail)
                addresses.append((channel, address.value, address.identity, address.masked))
        groups = _listed(values["groups"]) if columns.groups else []
        tags = dict.fromkeys((key, value) for column, key in columns.tags for value in _listed(values[column]))
        return Row(line, values["name"], external_id, addresses, groups, list(tags))

    # ---- writing -----------------------------------------------------------------------------------------------

    def _write_all(
        self, good: IO[str], folder: Path, columns: Columns, result: Result, options: Options
    ) -> Iterator[Progress]:
        owner = f"import-{os.getpid()}-{uuid7()}"
        revision = self._begin(owner)
        try:
            groups: dict[str, int] = {}
            total, done = result.rows - result.errors_total, 0
            with tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder) as renames:
                for rows in map(_kept, good):
                    self._write_slice(owner, revision, columns, rows, groups, renames, result, options)
                    before, done = done, done + len(rows)
                    if done // PROGRESS_EVERY > before // PROGRESS_EVERY:
                        yield Progress("write", done, total)
                result.skipped = result.errors_total
                self._finish(owner, revision, renames)
        except BaseException:
            self._give_up(owner)
            raise
        result.revision = revision
        log.info("importing.done", rows=result.rows, created=result.created, updated=result.updated, revision=revision)

    def _begin(self, owner: str) -> int:
        clean_up(self._database)
        with self._database.write() as connection:
            lock = store.lock(connection)
            if lock.import_owner is not None:
                raise Unavailable("Another import is running; try again when it is done.", retry_after=10)
            store.hold_for_import(connection, owner, LEASE_MS)
            return lock.revision + 1

    def _write_slice(
        self,
        owner: str,
        revision: int,
        columns: Columns,
        rows: Sequence[Row],
        groups: dict[str, int],
        renames: IO[str],
        result: Result,
        options: Options,
    ) -> None:
        with self._database.write() as connection:
            if store.lock(connection).import_owner != owner:
                raise Unavailable("The import was taken over; nothing was changed. Try again.", retry_after=10)
            store.hold_for_import(connection, owner, LEASE_MS)
            known = store.by_external_ids(connection, [r.external_id for r in rows if r.external_id is not None])
            if known and not options.update:
                bad = [BadRow(r.line, "external_id", "is in the directory already") for r in rows if r.external_id in known]
                for row in bad:
                    result.bad(row)
                result.created = result.updated = result.unchanged = 0
                raise ImportRefused(f"{len(bad)} people are there already; nothing was changed.", **result.as_dict())
            at = read_clock(connection)
            self._make_groups(connection, rows, groups, at, revision)
            new = [r for r in rows if r.external_id not in known]
            self._create(connection, new, groups, at, revision)
            result.created += len(new)
            there = {known[r.external_id].id: r for r in rows if r.external_id in known}
            changed = self._update(connection, columns, there, groups, at, revision)
            names = {known[r.external_id].id: r.name for r in rows if r.external_id in known}
            old = {row.id: row.name for row in known.values()}
            for number, name in names.items():
                if old[number] != name:  # a name has no revisions: it changes when everything becomes true
                    renames.write(json.dumps([number, name]) + "\n")
                    changed.add(number)
            result.updated += len(changed)
            result.unchanged += len(there) - len(changed)

    def _make_groups(
        self, connection: Connection, rows: Sequence[Row], groups: dict[str, int], at: int, revision: int
    ) -> None:
        for name in {g for r in rows for g in r.groups} - set(groups):
            row = store.group(connection, name, revision)
            groups[name] = (
                row.id
                if row is not None
                else store.add_group(connection, uid=str(uuid7()), name=name, created_at=at, from_rev=revision)
            )

    def _create(
        self, connection: Connection, rows: Sequence[Row], groups: Mapping[str, int], at: int, revision: int
    ) -> None:
        numbers = store.add_recipients(
            connection,
            [
                {"uid": str(uuid7()), "external_id": r.external_id, "name": r.name, "created_at": at, "from_rev": revision}
                for r in rows
            ],
        )
        pairs = list(zip(numbers, rows, strict=True))
        add = store.add_rows  # made while they are written: PostgreSQL works on the first of them meanwhile
        add(connection, contacts, (contact_row(n, c, Address(*a), at, revision) for n, r in pairs for c, *a in r.addresses))
        add(connection, recipient_tags, (_tag(n, key, value, revision) for n, r in pairs for key, value in sorted(r.tags)))
        add(connection, group_members, (_member(n, groups[g], revision) for n, r in pairs for g in r.groups))

    def _update(
        self,
        connection: Connection,
        columns: Columns,
        rows: Mapping[int, Row],
        groups: Mapping[str, int],
        at: int,
        revision: int,
    ) -> set[int]:
        """Brings known people to what their rows say; browsers are left alone. Who changed."""
        ids, changed = list(rows), set[int]()
        if not ids:
            return changed
        named = {channel for _, channel in columns.addresses}
        mine = [c for c in store.contacts_of(connection, ids, revision) if c.channel in named]
        there = {(c.recipient_id, c.channel, c.identity): c.id for c in mine}
        given = [(n, channel, Address(*words)) for n, r in rows.items() for channel, *words in r.addresses]
        wanted = {(n, channel, a.identity): contact_row(n, channel, a, at, revision) for n, channel, a in given}
        changed |= _replace(connection, contacts, there, wanted, revision)
        keys = {key for _, key in columns.tags}
        tags = [t for t in store.tags_of(connection, ids, revision) if t.key in keys]
        there_tags = {(t.recipient_id, t.key, t.value): t.id for t in tags}
        wanted_tags = {(n, k, v): _tag(n, k, v, revision) for n, r in rows.items() for k, v in r.tags}
        changed |= _replace(connection, recipient_tags, there_tags, wanted_tags, revision)
        if not columns.groups:
            return changed
        members = store.memberships_of(connection, ids, revision)
        there_members = {(m.recipient_id, m.group_id): m.id for m in members}
        wanted_members = {(n, groups[g]): _member(n, groups[g], revision) for n, r in rows.items() for g in r.groups}
        return changed | _replace(connection, group_members, there_members, wanted_members, revision)

    def _finish(self, owner: str, revision: int, renames: IO[str]) -> None:
        with self._database.write() as connection:
            if store.lock(connection).import_owner != owner:
                raise Unavailable("The import was taken over; nothing was changed. Try again.", retry_after=10)
            renames.seek(0)
            for number, name in map(json.loads, renames):
                store.rename(connection, recipients, number, name=name)
            store.set_revision(connection, revision)
            store.hold_for_import(connection, None, 0)

    def _give_up(self, owner: str) -> None:
        """Lets the lease run out at once and takes back what was written."""
        with self._database.write() as connection:
            if store.lock(connection).import_owner != owner:
                return
            store.hold_for_import(connection, owner, -1)
        clean_up(self._database)


@contextmanager
def reading(file: Path) -> Iterator[tuple[Any, Columns]]:
    """A reader of its rows, after the header. Raises Invalid (no such header)."""
    with file.open("r", encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, strict=True)
        yield reader, _header(reader)


def _keep(file: IO[str], rows: Sequence[Row]) -> None:
    """One slice, as one line."""
    if rows:
        file.write(json.dumps(rows) + "\n")


def _kept(line: str) -> list[Row]:
    return [Row(*words) for words in json.loads(line)]


def _header(reader: Any) -> Columns:
    try:
        header = [column.strip().lower() if column.strip().lower() in _FIXED else column.strip() for column in next(reader)]
    except (StopIteration, csv.Error):
        raise Invalid("The file is empty or no CSV; its first line must name the columns.") from None
    if "name" not in header:
        raise Invalid("The first line must name the columns, and one of them must be: name.")
    twice = sorted({c for c in header if header.count(c) > 1})
    if twice or "" in header or any(_fault(c) for c in header):
        raise Invalid(f"Column names must be there and differ; check: {', '.join(twice) or 'an empty or unreadable one'}.")
    return Columns.of(header)


def _fault(text: str) -> str | None:
    if len(text) > LONGEST_FIELD:
        return f"is longer than {LONGEST_FIELD} characters"
    if "\x00" in text:
        return "holds a NUL character"
    if not text.isascii() and _UNREADABLE.search(text):
        return "is not UTF-8"
    return None


def _listed(text: str) -> list[str]:
    """What stands between semicolons; each once."""
    if ";" not in text:
        return [text] if text else []
    return list(dict.fromkeys(part.strip() for part in text.split(";") if part.strip()))


def _tag(recipient: int, key: str, value: str, revision: int) -> dict[str, Any]:
    return {"recipient_id": recipient, "key": key, "value": value, "from_rev": revision}


def _member(recipient: int, group: int, revision: int) -> dict[str, Any]:
    return {"recipient_id": recipient, "group_id": group, "from_rev": revision}


def _replace(
    connection: Connection,
    table: Any,
    there: Mapping[tuple[Any, ...], int],
    wanted: Mapping[tuple[Any, ...], dict[str, Any]],
    revision: int,
) -> set[int]:
    """Ends what is not wanted, adds what is missing; whom (first of each key) that changed."""
    gone, fresh = set(there) - set(wanted), set(wanted) - set(there)
    store.end(connection, table, [there[key] for key in gone], revision)
    store.add_rows(connection, table, [wanted[key] for key in sorted(fresh)])
    return {key[0] for key in gone | fresh}
