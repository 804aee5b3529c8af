"""Reading the file: what a CSV writer has written comes back as it was."""

import csv
import tempfile
from pathlib import Path
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.domain.channel import ChannelSet
from broadcaster.services.importing import Importer, Progress, Result, Row
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
        read = [row for row in importer._rows(file, result) if not isinstance(row, Progress)]
    assert result.errors == []
    assert [plain(row) for row in read] == [
        (name, number, tuple(groups), frozenset(("site", site) for site in sites))
        for name, number, groups, sites in given_rows
    ]
    assert result.rows == len(given_rows)


def plain(row: Row) -> tuple[str, str | None, tuple[str, ...], frozenset[tuple[str, str]]]:
    return row.name, row.external_id, row.groups, frozenset(row.tags)
