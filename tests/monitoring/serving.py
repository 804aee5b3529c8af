"""The real API process with kinds of the tests' own: ``python -m tests.monitoring.serving``. Its settings are the
environment's."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from broadcaster.app import API_PATIENCE, create
from broadcaster.domain.monitor import Circumstances, Kind, Reading, Verdict
from broadcaster.settings import Settings
from broadcaster.wiring import Wiring

EVIL_REASON: Final = '=HYPERLINK("http://evil.example","well")'


class Server(BaseModel):
    """``says``: how every look ends."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field(max_length=200)
    port: int = Field(993, ge=1, le=65535)
    tls: bool = True
    says: Verdict = Verdict.OK
    reason: str = "It is well."
    password: SecretStr = SecretStr("")


class Obedient:
    """Looks as its config says, unless ``told`` says otherwise of its host."""

    name = "obedient"
    label = "What it is told"
    codes: Mapping[str, str] = {"ok": "It is well.", "down": "It is not.", "slow": "Slow.", "cannot_say": "Who knows."}
    config = Server

    def __init__(self) -> None:
        self.told: dict[str, Verdict] = {}

    async def look(self, config: Server, circumstances: Circumstances) -> Reading:
        verdict = self.told.get(config.host, config.says)
        code = {Verdict.OK: "ok", Verdict.FAILED: "down", Verdict.DEGRADED: "slow", Verdict.UNKNOWN: "cannot_say"}[verdict]
        reason = config.reason if verdict is config.says else f"It is {verdict}."
        signed_in = bool(config.password.get_secret_value())
        return Reading(verdict, code, reason, 0.012, {"port": config.port, "signed_in": signed_in})


class Every(BaseModel):
    model_config = ConfigDict(extra="forbid")

    interval: float = Field(60.0, ge=1, le=86_400)


class Heartbeat:
    """Down until it is heard."""

    name = "heartbeat"
    label = "A heartbeat"
    codes: Mapping[str, str] = {"ok": "It was heard.", "missing": "It was not."}
    config = Every

    async def look(self, config: Every, circumstances: Circumstances) -> Reading:
        if circumstances.last_seen is None:
            return Reading(Verdict.FAILED, "missing", "Nothing was heard yet.")
        return Reading(Verdict.OK, "ok", "It was heard.")


@dataclass(frozen=True)
class Wired(Wiring):
    @cached_property
    def kinds(self) -> Mapping[str, Kind]:
        return {kind.name: kind for kind in (self.obedient, Heartbeat())}

    @cached_property
    def obedient(self) -> Obedient:
        return Obedient()


def main() -> None:
    settings = Settings()
    app = create(wiring=Wired(settings, patience=API_PATIENCE))
    uvicorn.run(app, host="127.0.0.1", port=settings.port, log_config=None, access_log=True)


if __name__ == "__main__":
    main()
