"""Pages and ports."""

import socket
from typing import Any

import pytest
from aiohttp import web

from broadcaster.domain.monitor import Reading, Verdict
from broadcaster.monitors import connecting
from broadcaster.monitors.http import Http
from broadcaster.monitors.tcp import Tcp
from tests.monitors import stand_ins
from tests.monitors.certificates import Authority
from tests.monitors.looks import look, look_at, run
from tests.monitors.stand_ins import says, serving
from tests.monitors.web_servers import web_server


async def _page(request: web.Request) -> web.StreamResponse:
    assert request.headers["User-Agent"] == "alert-broadcaster-monitor"
    return web.Response(text="All systems operational. £")


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65_536)


def _redirect(to: str) -> Any:
    async def handler(_: web.Request) -> web.Response:
        raise web.HTTPFound(to)

    return handler


async def _strange_charset(_: web.Request) -> web.Response:
    return web.Response(body=b"operational", headers={"Content-Type": "text/plain; charset=klingon"})


async def _slow_charset(_: web.Request) -> web.Response:
    """Decoded as it says, 300 kB of it take a quarter of a minute, in which nothing else is looked at."""
    return web.Response(body=b"9" * 300_000 + b" operational", headers={"Content-Type": "text/plain; charset=punycode"})


ROUTES = [
    web.get("/slow-charset", _slow_charset),
    web.get("/", _page),
    web.get("/endless", _endless),
    web.get("/moved", _redirect("/")),
    web.get("/round", _redirect("/round")),
    web.get("/metadata", _redirect("http://169.254.169.254/latest/meta-data/")),
    web.get("/elsewhere", _redirect("ftp://127.0.0.1/")),
    web.get("/strange", _strange_charset),
]


def seen(path: str, timeout: float = 10.0, loop: str = "asyncio", **config: Any) -> Reading:
    async def main() -> Reading:
        async with web_server(ROUTES) as base:
            return await look(Http(), {"url": base + path, **config}, timeout)

    return run(main, loop)


@pytest.mark.parametrize(
    ("path", "config", "verdict", "code"),
    [
        ("/", {}, Verdict.OK, "ok"),
        ("/", {"method": "HEAD"}, Verdict.OK, "ok"),
        ("/", {"text": "operational. £", "no_text": "outage"}, Verdict.OK, "ok"),
        ("/", {"text": "outage"}, Verdict.FAILED, "text_missing"),
        ("/", {"no_text": "operational"}, Verdict.FAILED, "text_unwanted"),
        ("/", {"degraded_after": 0.000001}, Verdict.DEGRADED, "slow"),
        ("/nowhere", {}, Verdict.FAILED, "wrong_status"),
        ("/nowhere", {"statuses": [404, 200]}, Verdict.OK, "ok"),
        ("/moved", {}, Verdict.FAILED, "wrong_status"),
        ("/moved", {"statuses": [302]}, Verdict.OK, "ok"),
        ("/moved", {"follow_redirects": True, "text": "operational"}, Verdict.OK, "ok"),
        ("/round", {"follow_redirects": True}, Verdict.FAILED, "too_many_redirects"),
        ("/elsewhere", {"follow_redirects": True}, Verdict.FAILED, "not_http"),
        ("/metadata", {"follow_redirects": True}, Verdict.UNKNOWN, "forbidden_address"),
        ("/endless", {"text": "operational"}, Verdict.FAILED, "text_missing"),
        ("/strange", {"text": "operational"}, Verdict.OK, "ok"),
        ("/slow-charset", {"text": "operational", "degraded_after": 4.0}, Verdict.OK, "ok"),
    ],
)
def test_pages(path: str, config: dict[str, Any], verdict: Verdict, code: str, loop: str) -> None:
    found = seen(path, loop=loop, **config)
    assert (found.verdict, found.code) == (verdict, code), found


def test_a_page_that_does_not_come() -> None:
    server = serving(stand_ins.once_asked(stand_ins.is_silent))
    assert look_at(Http(), server, lambda port: {"url": f"http://127.0.0.1:{port}/"}, 0.5).code == "no_answer"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("days", "code"), [(90.0, "ok"), (13.0, "certificate_ends_soon")])
def test_certificate_days(days: float, code: str, method: str, authority: Authority, loop: str) -> None:
    async def main() -> Reading:
        async with web_server(ROUTES, authority.pair(f"http-{days}", days=days).server()) as base:
            return await look(Http(), {"url": base, "method": method, "ca_certificates": authority.pem})

    found = run(main, loop)
    assert found.code == code, found
    assert abs(float(found.detail["certificate_days"] or 0) - days) < 0.2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "connection_lost"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not_http"),
    ],
)
def test_answers_that_break_off(answer: bytes, code: str) -> None:
    server = serving(stand_ins.once_asked(says(answer)))
    found = look_at(Http(), server, lambda port: {"url": f"http://127.0.0.1:{port}/", "text": "long"})
    assert (found.verdict, found.code) == (Verdict.FAILED, code), found


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%lo", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1", "fd00:ec2::254", "100.100.100.200", "168.63.129.16",
    ],
)  # fmt: skip
def test_forbidden_addresses(address: str) -> None:
    assert connecting.forbidden(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.2.3", "192.168.1.1", "203.0.113.7", "2001:db8::1", "fd00::1"])
def test_private_addresses_are_where_mail_servers_are(address: str) -> None:
    assert not connecting.forbidden(address)


def test_a_name_that_leads_to_metadata_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is harmless; the check is on the address that it has at that moment."""

    async def main() -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(2, 1, 6, "", ("169.254.169.254", 80))])
        for kind, config in (
            (Http(), {"url": "http://mail.example.org/"}),
            (Tcp(), {"host": "mail.example.org", "port": 80}),
        ):
            found = await look(kind, config)
            assert (found.verdict, found.code) == (Verdict.UNKNOWN, "forbidden_address"), found

    run(main)


@pytest.mark.parametrize(
    ("config", "verdict", "code"),
    [
        ({}, Verdict.OK, "ok"),
        ({"banner": "OpenSSH"}, Verdict.OK, "ok"),
        ({"degraded_after": 0.000001}, Verdict.DEGRADED, "slow"),
    ],
)
def test_ports(config: dict[str, Any], verdict: Verdict, code: str, loop: str) -> None:
    server = serving(says(b"SSH-2.0-OpenSSH_9.2\r\n")) if "banner" in config else stand_ins.listening()
    found = look_at(Tcp(), server, lambda port: {"host": "localhost", "port": port, **config}, loop=loop)
    assert (found.verdict, found.code) == (verdict, code), found


def test_what_a_port_says_is_kept_short_and_printable() -> None:
    server = serving(says(b"\x1b[31mcall nurse@example.org " + b"A" * 5000))
    found = look_at(Tcp(), server, lambda port: {"host": "127.0.0.1", "port": port, "banner": "SSH"})
    said = found.detail["said"]
    assert isinstance(said, str)
    assert said.startswith("[31mcall … AAA")
    assert len(said) == 200
