"""What operators copy: it names every setting, starts commands that exist, and parses where it will be read."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import click
import pytest
from pydantic import SecretStr

from broadcaster.cli.commands import cli
from broadcaster.settings import Settings

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
UNITS: Final = sorted(path.name for path in (DEPLOY / "systemd").iterdir())
EXAMPLE: Final = (DEPLOY / "broadcaster.env.example").read_text(encoding="utf-8")
CONTAINERFILE: Final = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
BINARY: Final = "/opt/broadcaster/bin/broadcaster"
HARDENED: Final = {"read_only": True, "security_opt": ["no-new-privileges:true"], "cap_drop": ["ALL"]}


# ---- the settings --------------------------------------------------------------------------------------------------


def _written(default: object) -> str:
    """A default as the environment spells it."""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, tuple):
        return ",".join(default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_example_has_every_setting_with_its_meaning_and_default_and_nothing_else() -> None:
    expected = "\n".join(
        f"# {field.description}\n#BROADCASTER_{name.upper()}={_written(field.default)}\n"
        for name, field in Settings.model_fields.items()
    )
    _, _, settings = EXAMPLE.partition("\n\n")
    assert settings == expected


def test_the_examples_defaults_are_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BROADCASTER_")]:
        monkeypatch.delenv(name)
    untouched = Settings()
    for name, value in re.findall(r"^#(BROADCASTER_\w+)=(.*)$", EXAMPLE, re.MULTILINE):
        monkeypatch.setenv(name, value)
    assert Settings() == untouched


def test_no_setting_is_in_force_in_the_example() -> None:
    assert [line for line in EXAMPLE.splitlines() if line and not line.startswith("#")] == []


@pytest.mark.parametrize("file", ["Containerfile", "compose.yaml", "README.md", *(f"systemd/{name}" for name in UNITS)])
def test_no_setting_is_named_that_does_not_exist(file: str) -> None:
    text = (DEPLOY / file).read_text(encoding="utf-8")
    known = {f"BROADCASTER_{name.upper()}" for name in Settings.model_fields} | {"BROADCASTER_WORKER_QUEUE"}
    assert set(re.findall(r"BROADCASTER_[A-Z_]*[A-Z]", text)) <= known


# ---- commands ------------------------------------------------------------------------------------------------------


def _understands(arguments: list[str]) -> None:
    """Parses as the command line would, without running anything."""
    command: click.Command = cli
    context, rest = click.Context(cli), arguments
    while isinstance(command, click.Group):
        name, *rest = rest
        assert name in command.commands, f"broadcaster has no command {shlex.join(arguments)}"
        command = command.commands[name]
    try:
        command.make_context(command.name, rest, parent=context)
    except click.UsageError as error:
        pytest.fail(f"broadcaster {shlex.join(arguments)}: {error.message}")


def _compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with schemathesis")
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return document


def test_compose_runs_the_parts_by_commands_that_exist() -> None:
    services = _compose()["services"]
    ours = {name: service["command"] for name, service in services.items() if service["image"] == "alert-broadcaster"}
    assert set(ours) == {"migrate", "api", "worker-critical", "worker-bulk"}
    for command in ours.values():
        _understands(command)


def test_compose_gives_no_service_more_than_it_needs() -> None:
    document = _compose()
    for name, service in document["services"].items():
        assert {key: service.get(key) for key in HARDENED} == HARDENED, name
        assert service["stop_grace_period"] == "30s", name
        named = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        assert named <= set(document["volumes"]), name
        assert set(service["networks"]) <= set(document["networks"]), name
        assert set(service.get("depends_on", {})) <= set(document["services"]), name
    assert [name for name, service in document["services"].items() if "ports" in service] == ["api"]


def test_compose_keeps_what_redis_and_postgresql_hold() -> None:
    services = _compose()["services"]
    redis = services["redis"]["command"]
    options = dict(zip(redis[1::2], redis[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert services["redis"]["volumes"]
    assert services["postgres"]["volumes"]
    assert services["postgres"]["healthcheck"]["test"]


def test_the_build_context_of_compose_is_the_repository() -> None:
    build = _compose()["services"]["migrate"]["build"]
    context = (DEPLOY / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).is_file()


@pytest.mark.parametrize("queue", ["bulk", "critical"])
@pytest.mark.parametrize("unit", [name for name in UNITS if name.endswith(".service")])
def test_units_start_commands_that_exist(unit: str, queue: str) -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", _unit(unit), re.MULTILINE)
    binary, *arguments = shlex.split(line.replace("%i", queue))
    assert binary == BINARY
    _understands(arguments)


def test_the_guides_commands_exist() -> None:
    guide = (DEPLOY / "README.md").read_text(encoding="utf-8")
    typed = re.findall(r"^    (?:b|broadcaster|docker compose exec api broadcaster) ([a-z].*)$", guide, re.MULTILINE)
    quoted = re.findall(r"`broadcaster ([a-z][^`]*)`", guide)
    assert typed
    assert quoted
    for words in typed + quoted:
        _understands(shlex.split(words, comments=True))


# ---- systemd -------------------------------------------------------------------------------------------------------


def _unit(name: str) -> str:
    return (DEPLOY / "systemd" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("unit", [name for name in UNITS if name.endswith(".service")])
def test_units_are_hardened_and_come_back(unit: str) -> None:
    lines = _unit(unit).splitlines()
    for wanted in (
        "User=broadcaster",
        "EnvironmentFile=/etc/broadcaster/broadcaster.env",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "Restart=always",
        "TimeoutStopSec=30",
        "KillMode=mixed",
    ):
        assert wanted in lines


def test_the_target_starts_every_service() -> None:
    (wants,) = re.findall(r"^Wants=(.*)$", _unit("broadcaster.target"), re.MULTILINE)
    assert {re.sub(r"@\w+", "@", name) for name in wants.split()} == {n for n in UNITS if n.endswith(".service")}


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is missing: install systemd")
    for name in UNITS:  # it wants to see the binary, which is not installed here
        (tmp_path / name).write_text(_unit(name).replace(BINARY, "/bin/sh"), encoding="utf-8")
    instances = ["broadcaster-worker@bulk.service", "broadcaster-worker@critical.service"]
    files = [name for name in UNITS if "@" not in name] + instances
    run = subprocess.run(
        [analyze, "verify", "--man=no", *(str(tmp_path / name) for name in files)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    about_ours = [line for line in run.stderr.splitlines() if "broadcaster" in line]
    assert about_ours == []
    assert run.returncode == 0, run.stderr


# ---- the image -----------------------------------------------------------------------------------------------------


def _instructions() -> list[tuple[str, str]]:
    """Instruction and argument, with comments gone and continued lines joined."""
    lines = "\n".join(line for line in CONTAINERFILE.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    parts = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word, argument) for word, argument in parts]


def test_the_image_copies_files_that_exist_and_that_the_build_may_see() -> None:
    ignore = (DEPLOY / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for word, argument in _instructions():
        if word != "COPY" or argument.startswith("--from="):
            continue
        for source in argument.split()[:-1]:
            found = [path.name for path in ROOT.glob(source)] if "*" in source else [source]
            for name in found:
                assert (ROOT / name).exists(), f"COPY {name}: no such file"
                assert f"!{name}" in ignore, f"COPY {name}: hidden by Containerfile.dockerignore"


def test_the_image_is_locked_has_its_pages_and_is_no_root() -> None:
    instructions = _instructions()
    text = "\n".join(f"{word} {argument}" for word, argument in instructions)
    assert "--require-hashes" in text
    assert "python -m broadcaster.console.assets" in text
    assert (ROOT / "broadcaster" / "console" / "assets.py").is_file()
    assert "/healthz" in dict(instructions)["HEALTHCHECK"]
    user = [argument for word, argument in instructions if word == "USER"][-1]
    assert not user.startswith(("root", "0"))
    assert "://" not in text.replace("http://127.0.0.1:", ""), "no host stands in the build but the images' names"


def test_the_image_runs_a_command_that_exists() -> None:
    found = dict(_instructions())
    assert found["ENTRYPOINT"] == '["broadcaster"]'
    _understands(re.findall(r'"([^"]+)"', found["CMD"]))
