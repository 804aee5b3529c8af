"""The table of formats, and what holds for the whole room."""

import ast
import re
import sys
from pathlib import Path

import pytest

import broadcaster.ingest
from broadcaster.ingest.formats import FORMATS

ROOM = Path(broadcaster.ingest.__file__).parent


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_known_by_its_modules_name(name: str) -> None:
    known = FORMATS[name]
    assert known.name == name
    assert re.fullmatch(r"[a-z_]+", name)
    assert known.label
    assert type(known).__module__ == f"broadcaster.ingest.{name}"


def test_every_module_with_a_format_is_in_the_table() -> None:
    shared = {"__init__", "formats", "trees", "elements", "times", "texts", "signals"}
    assert {path.stem for path in ROOM.glob("*.py")} - shared == set(FORMATS)


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda path: path.stem)
def test_a_module_imports_the_domain_and_the_standard_library_only_and_no_clock(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            assert (
                name.startswith(("broadcaster.domain", "broadcaster.ingest"))
                or name.split(".")[0] in sys.stdlib_module_names
            )
            assert name.split(".")[0] not in ("time", "os", "socket", "urllib.request", "pathlib", "random", "logging")
