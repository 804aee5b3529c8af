"""A monitor's secrets are written and never read, and stay where they were meant for; a trial look always ends."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from broadcaster.domain.errors import Invalid, NotFound
from broadcaster.domain.monitor import Circumstances, Reading, Verdict
from broadcaster.services.monitors import Monitors, MonitorView, Watch
from broadcaster.services.sealing import Sealer
from broadcaster.services.secretive import joined, sealed, split
from tests.watching.rig import Site

PASSWORD: Final = "hunter2-do-not-repeat"


class Key(BaseModel):
    way: Literal["key"]
    key: SecretStr


class Word(BaseModel):
    way: Literal["word"]
    word: SecretStr


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")

    host: str
    port: int = 993
    password: SecretStr | None = None
    headers: dict[str, SecretStr] = {}
    sign_in: Key | Word | None = Field(None, discriminator="way")


class Server:
    """Looks as its host says: "hangs", "breaks", or well."""

    name = "server"
    label = "A server"
    codes: Mapping[str, str] = {"ok": "It is well."}
    config = Config

    async def look(self, config: Config, circumstances: Circumstances) -> Reading:
        if config.host == "hangs":
            await asyncio.sleep(3600)
        if config.host == "breaks":
            raise RuntimeError("a fault of the kind's")
        return Reading(Verdict.OK, "ok", "It is well.")


@pytest.fixture
def monitors(site: Site) -> Monitors:
    return Monitors(site.engine.database, {"server": Server()}, site.engine.alerts, site.incidents, site.sealer)


def made(monitors: Monitors, **config: Any) -> MonitorView:
    return monitors.create(Watch("Mail", "server", {"host": "mail.example.org", **config}))[0]


def kept(site: Site, monitors: Monitors) -> dict[str, Any]:
    ((config, secrets),) = site.engine.rows("SELECT config, secrets FROM monitors")
    assert PASSWORD not in config + (secrets or "")
    return joined(json.loads(config), secrets, site.sealer)


def test_what_is_shown_put_back_keeps_its_secrets(site: Site, monitors: Monitors) -> None:
    view = made(monitors, password=PASSWORD)
    assert view.watch.config == {"host": "mail.example.org", "port": 993, "headers": {}, "sign_in": None}
    assert view.secrets == ("/password",)
    for same in (view.watch.config, {"host": "mail.example.org"}):
        changed = monitors.replace(view.uid, replace(view.watch, name="Other", config=same), keep_secrets=True)
        assert changed.watch.name == "Other"
        assert kept(site, monitors)["password"] == PASSWORD


def test_a_secret_goes_to_no_other_host(site: Site, monitors: Monitors) -> None:
    view = made(monitors, password=PASSWORD)
    elsewhere = replace(view.watch, config={"host": "elsewhere.example"})
    with pytest.raises(Invalid, match="given again .*: password"):
        monitors.replace(view.uid, elsewhere, keep_secrets=True)
    assert kept(site, monitors)["host"] == "mail.example.org"
    without = replace(view.watch, config={"host": "elsewhere.example", "password": None})
    assert monitors.replace(view.uid, without, keep_secrets=True).secrets == ()
    assert kept(site, monitors)["password"] is None


def test_one_secret_can_be_changed_while_the_other_stays(site: Site, monitors: Monitors) -> None:
    view = made(monitors, password=PASSWORD, sign_in={"way": "key", "key": "k1"})
    config = {"host": "mail.example.org", "sign_in": {"way": "key", "key": "k2"}}
    monitors.replace(view.uid, replace(view.watch, config=config), keep_secrets=True)
    assert kept(site, monitors)["sign_in"]["key"] == "k2"
    assert kept(site, monitors)["password"] == PASSWORD


def test_what_is_given_is_never_repeated(monitors: Monitors) -> None:
    for config in ({"host": "h", "sign_in": {"way": PASSWORD}}, {"host": "h", "port": PASSWORD}, {"host": [PASSWORD]}):
        with pytest.raises(Invalid) as refused:
            monitors.create(Watch("Mail", "server", config))
        assert PASSWORD not in refused.value.detail
        assert refused.value.detail.startswith("config.")


def test_a_monitor_whose_secrets_cannot_be_read_any_more_is_still_seen(site: Site, monitors: Monitors) -> None:
    view = made(monitors, password=PASSWORD)
    later = Monitors(site.engine.database, monitors.kinds, site.engine.alerts, site.incidents, Sealer(b"another" * 8))
    assert later.get(view.uid).watch.config["host"] == "mail.example.org"
    again = replace(view.watch, config={"host": "mail.example.org", "password": "new"})
    assert later.replace(view.uid, again, keep_secrets=True).secrets == ("/password",)


def test_any_name_can_hold_a_secret() -> None:
    sealer = Sealer(b"s" * 32)
    config = Config(host="h", headers={"a/b~c": SecretStr(PASSWORD), "a": SecretStr("")})
    plain, secrets = split(config)
    assert joined(plain, sealed(secrets, sealer), sealer)["headers"]["a/b~c"] == PASSWORD


@pytest.mark.parametrize(("host", "code"), [("hangs", "timeout"), ("breaks", "bug"), ("well", "ok")])
def test_a_trial_look_always_ends_with_a_reading(monitors: Monitors, host: str, code: str) -> None:
    assert asyncio.run(monitors.try_out("server", {"host": host}, 0.01)).code == code


def test_a_strangers_heartbeat_does_not_wait_for_the_databases_writer(site: Site, monitors: Monitors) -> None:
    with site.engine.database.write(), pytest.raises(NotFound):
        monitors.heard("no such token")
