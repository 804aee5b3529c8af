"""Reading the file: what a CSV writer has written comes back as it was."""

import csv
import random
import tempfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.domain.channel import ChannelSet
from broadcaster.services.importing import BadRow, Importer, Options, Progress, Result, Row, reading
from broadcaster.store.database import Database

HEADER = ("name", "external_id", "groups", "site")
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)
names = texts.map(str.strip).filter(bool)
lists = st.lists(texts.map(lambda t: t.replace(";", "").strip()).filter(bool), max_size=3, unique=True)
rows = st.lists(st.tuples(names, names, lists, lists), max_size=8, unique_by=lambda row: row[1])


@given(rows, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_rows_come_back_as_they_were_written(
    given_rows: list[tuple[str, str, list[str], list[str]]], quoting: Literal[0, 1], mark: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "people.csv"
        with file.open("w", encoding="utf-8-sig" if mark else "utf-8", newline="") as text:
            writer = csv.writer(text, quoting=quoting)
            writer.writerow(HEADER)
            writer.writerows([name, number, ";".join(groups), ";".join(sites)] for name, number, groups, sites in given_rows)
        result = Result()
        importer = Importer(Database("sqlite://"), ChannelSet(live={}, sandbox={}))
        with reading(file) as (reader, columns):
            read = [row for row in importer._rows(reader, columns, result) if not isinstance(row, Progress)]
    assert result.errors == []
    assert [plain(row) for row in read] == [
        (name, number, tuple(groups), frozenset(("site", site) for site in sites))
        for name, number, groups, sites in given_rows
    ]
    assert result.rows == len(given_rows)


def plain(row: Row) -> tuple[str, str | None, tuple[str, ...], frozenset[tuple[str, str]]]:
    return row.name, row.external_id, tuple(row.groups), frozenset(row.tags)


@pytest.mark.parametrize("column", [0, 1, 3])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"x" * 1_001, "is longer than 1000 characters"),
        (b"a\x00b", "holds a NUL character"),
        (b"caf\xe9", "is not UTF-8"),
        (b"x" * 1_000, None),
        ("ü ✓ \u202e".encode(), None),
    ],
)
def test_what_cannot_be_taken_is_named_by_its_column(
    tmp_path: Path, column: int, content: bytes, reason: str | None
) -> None:
    fields = [b"A name", b"a number", b"", b"a site"]
    fields[column] = content
    result = checked(tmp_path, [b"One,1,,s" + b"x" * 700, b",".join(fields), b"Three,3,,s"])
    assert result.rows == 3
    assert result.errors == ([] if reason is None else [BadRow(3, HEADER[column], reason)])


def test_bad_rows_of_a_long_file_are_named_in_its_order(tmp_path: Path) -> None:
    """More than two slices of either database: each fault by its own line, a repeat wherever the first one stood."""
    lot = random.Random(7)
    lines = [f"Person {n},n-{n},,s".encode() for n in range(12_000)]
    bad = {
        n: lot.choice([(b" ,x,,s", "name"), (b"a,b", None), (b"Twice,n-0,,s", "external_id"), (b"\xe9,x,,s", "name")])
        for n in sorted(lot.sample(range(1, 12_000), 900))
    }
    for n, (line, _) in bad.items():
        lines[n] = line
    result = checked(tmp_path, lines)
    assert (result.rows, result.errors_total) == (12_000, 900)
    assert [(row.line, row.column) for row in result.errors] == [(n + 2, column) for n, (_, column) in bad.items()]


def checked(folder: Path, lines: list[bytes]) -> Result:
    file = folder / "people.csv"
    file.write_bytes(b"\n".join([",".join(HEADER).encode(), *lines]))
    importer = Importer(Database("sqlite://"), ChannelSet(live={}, sandbox={}))
    result = list(importer.run(file, Options(dry_run=True, skip_bad=True)))[-1]
    assert isinstance(result, Result)
    return result
