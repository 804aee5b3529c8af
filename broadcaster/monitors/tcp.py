"""A TCP port: does it take a connection and, if asked for, say the right first words?"""

import asyncio
import socket
from typing import Final

from pydantic import Field

from broadcaster.domain.monitor import Circumstances, Reading, Verdict
from broadcaster.monitors import connecting, fields, findings, lines, words
from broadcaster.monitors.findings import Code, Codes, Trouble, clock, deadline, step

#: Bytes of a banner that are read; a server may never stop talking.
LONGEST: Final = 4096

CODES: Final[Codes] = {
    **findings.WELL,
    **{name: code for name, code in findings.CONNECTING.items() if name != "no_answer"},
    "no_banner": Code(Verdict.FAILED, "The server took the connection, but said nothing."),
    "wrong_banner": Code(Verdict.FAILED, "The server's first words are not the expected ones."),
}


class Config(fields.Settings):
    """One port."""

    host: fields.Host = Field(description="The server.")
    port: fields.Port = Field(description="Its port.")
    banner: fields.Line | None = Field(None, description="Text that must be in the first 4096 bytes that the server says.")
    degraded_after: fields.DegradedAfter = 5.0


class Tcp:
    """Kind. Knows no state."""

    name: Final = "tcp"
    label: Final = "A TCP port"
    config: Final = Config
    codes: Final = findings.meanings(CODES)

    async def look(self, config: Config, circumstances: Circumstances) -> Reading:
        try:
            return await _look(config, deadline(circumstances))
        except Trouble as trouble:
            return trouble.reading(CODES)


async def _look(config: Config, until: float) -> Reading:
    began = clock()
    sock = await connecting.connect(config.host, config.port, until)
    if config.banner is None:
        sock.close()
    else:
        await _banner(sock, config.banner.encode(), until)
    latency = clock() - began
    return findings.well(
        CODES, f"The server answered in {words.seconds(latency)}.", latency=latency, degraded_after=config.degraded_after
    )


async def _banner(sock: socket.socket, wanted: bytes, until: float) -> None:
    """Raises Trouble where the server does not say it by ``until``."""
    async with step("banner", until):
        connection = await lines.over(sock)
    try:
        async with step("banner", until):
            said = await connection.until(wanted, LONGEST)
    except Trouble as trouble:
        if trouble.code != "no_answer":
            raise
        said = connection.seen()
    finally:
        connection.close()
    if wanted not in said:
        raise Trouble("wrong_banner", detail={"said": words.printable(said)}) if said else Trouble("no_banner")


async def reachable(host: str, port: int, timeout: float) -> bool:
    """Whether a connection can be made within ``timeout`` seconds: all that a control target is asked."""
    try:
        sock = await connecting.connect(host, port, asyncio.get_running_loop().time() + timeout)
    except Trouble:
        return False
    sock.close()
    return True
