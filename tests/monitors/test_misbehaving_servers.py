"""Whatever a server does to us, there is a reading in time, with a code of its own, and nothing is left behind."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broadcaster.domain.monitor import Kind, Verdict
from broadcaster.monitors import tls
from broadcaster.monitors.http import Http
from broadcaster.monitors.imap import Imap
from broadcaster.monitors.mail_round_trip import MailRoundTrip
from broadcaster.monitors.smtp import Smtp
from broadcaster.monitors.tcp import Tcp
from tests.monitors import stand_ins
from tests.monitors.certificates import Authority
from tests.monitors.looks import circumstances, look_at, run
from tests.monitors.stand_ins import GARBAGE, Handler, says, serving

Config = Callable[[int], dict[str, Any]]


def smtp(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "security": "none"}


def imap(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "security": "none", "auth": "none"}


def tcp(port: int) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "banner": "SSH-2.0"}


def http(port: int) -> dict[str, Any]:
    return {"url": f"http://127.0.0.1:{port}/", "text": "hello"}


def trip(port: int) -> dict[str, Any]:
    return {
        "smtp_host": "127.0.0.1", "smtp_port": port, "smtp_security": "none", "smtp_auth": "none",
        "sender": "a@example.org", "recipient": "b@example.org", "imap_host": "127.0.0.1", "imap_port": port,
        "username": "somebody", "password": "a-password",
    }  # fmt: skip


KINDS: Final[dict[str, tuple[Kind, Config]]] = {
    "smtp": (Smtp(), smtp),
    "imap": (Imap(), imap),
    "tcp": (Tcp(), tcp),
    "http": (Http(), http),
    "mail_round_trip": (MailRoundTrip(), trip),
}

#: behaviour -> the code of each kind
MATRIX: Final[dict[str, tuple[Handler, dict[str, str]]]] = {
    "closes": (
        stand_ins.closes,
        {"smtp": "connection_lost", "imap": "connection_lost", "tcp": "no_banner", "http": "connection_lost"},
    ),
    "resets": (
        stand_ins.resets,
        {"smtp": "connection_lost", "imap": "connection_lost", "tcp": "connection_lost", "http": "connection_lost"},
    ),
    "is_silent": (
        stand_ins.is_silent,
        {"smtp": "no_answer", "imap": "no_answer", "tcp": "no_banner", "http": "no_answer"},
    ),
    "closes_in_its_greeting": (
        says(b"22"),
        {"smtp": "connection_lost", "imap": "connection_lost", "tcp": "wrong_banner", "http": "not_http"},
    ),
    "garbage": (
        says(GARBAGE, then=stand_ins.is_silent),
        {"smtp": "not_smtp", "imap": "not_imap", "tcp": "wrong_banner", "http": "not_http"},
    ),
    "never_ends": (
        stand_ins.never_ends,
        {"smtp": "not_smtp", "imap": "not_imap", "tcp": "wrong_banner", "http": "not_http"},
    ),
    "greets_for_ever": (
        stand_ins.repeats(b"220-welcome to the longest banner\r\n"),
        {"smtp": "not_smtp", "imap": "not_imap", "tcp": "wrong_banner", "http": "not_http"},
    ),
    "speaks_another_protocol": (
        says(b"SSH-1.99-OpenSSH_3.4\r\n", then=stand_ins.is_silent),
        {"smtp": "not_smtp", "imap": "not_imap", "tcp": "wrong_banner", "http": "not_http"},
    ),
}


@pytest.mark.parametrize("kind", ["smtp", "imap", "tcp", "http"])
@pytest.mark.parametrize("behaviour", MATRIX)
def test_each_misbehaviour_has_its_code(kind: str, behaviour: str, loop: str) -> None:
    handler, expected = MATRIX[behaviour]
    made, config = KINDS[kind]
    # Who may still say the right thing is listened to until the end.
    timeout = 0.7 if behaviour == "is_silent" or expected[kind] == "wrong_banner" else 10.0
    server = serving(stand_ins.once_asked(handler) if kind == "http" else handler)
    reading = look_at(made, server, config, timeout, loop)
    assert (reading.verdict, reading.code) == (Verdict.FAILED, expected[kind]), reading


@pytest.mark.parametrize("behaviour", MATRIX)
def test_to_the_round_trip_each_is_an_unreachable_submission(behaviour: str) -> None:
    handler, expected = MATRIX[behaviour]
    made, config = KINDS["mail_round_trip"]
    reading = look_at(made, serving(handler), config, 0.7 if behaviour == "is_silent" else 10.0)
    assert (reading.verdict, reading.code) == (Verdict.FAILED, "submission_unreachable"), reading
    assert (reading.detail["side"], reading.detail["cause"]) == ("submission", expected["smtp"])


@pytest.mark.parametrize("kind", ["smtp", "imap", "tcp", "http"])
def test_nobody_listens(kind: str, loop: str) -> None:
    made, config = KINDS[kind]
    reading = look_at(made, stand_ins.nobody(), config, loop=loop)
    assert (reading.verdict, reading.code) == (Verdict.FAILED, "connection_refused"), reading


def secured(name: str, port: int, authority: Authority | None) -> dict[str, Any]:
    trust = {"ca_certificates": authority.pem} if authority else {}
    if name == "http":
        return {"url": f"https://localhost:{port}/", **trust}
    auth = {"auth": "none"} if name == "imap" else {}
    return {"host": "localhost", "port": port, "security": "tls", **auth, **trust}


@pytest.mark.parametrize("kind", ["smtp", "imap", "http"])
@pytest.mark.parametrize("behaviour", ["garbage", "closes", "resets", "is_silent", "speaks_another_protocol"])
def test_nonsense_in_the_place_of_tls(kind: str, behaviour: str, authority: Authority, loop: str) -> None:
    handler = MATRIX[behaviour][0]
    timeout = 0.7 if behaviour == "is_silent" else 10.0
    reading = look_at(KINDS[kind][0], serving(handler), lambda port: secured(kind, port, authority), timeout, loop)
    assert reading.verdict is Verdict.FAILED
    expected = {
        "garbage": {"tls_failed"}, "closes": {"connection_lost"}, "resets": {"connection_lost"},
        "is_silent": {"no_answer", "connect_timeout"}, "speaks_another_protocol": {"tls_failed"},
    }[behaviour]  # fmt: skip
    assert reading.code in expected, reading


@pytest.mark.parametrize("kind", ["smtp", "imap", "http"])
@pytest.mark.parametrize(
    ("days", "host", "trusted", "code"),
    [
        (-1.0, "localhost", True, "certificate_expired"),
        (30.0, "mail.example.org", True, "certificate_wrong_name"),
        (30.0, "localhost", False, "certificate_untrusted"),
    ],
)
def test_certificates(
    kind: str, days: float, host: str, trusted: bool, code: str, authority: Authority, loop: str
) -> None:  # fmt: skip
    context = authority.pair(f"{kind}-{code}", days=days, host=host).server()
    reading = look_at(
        KINDS[kind][0], serving(stand_ins.closes, context),
        lambda port: secured(kind, port, authority if trusted else None), loop=loop,
    )  # fmt: skip
    assert (reading.verdict, reading.code) == (Verdict.FAILED, code), reading


def starttls(kind: str, port: int, authority: Authority) -> dict[str, Any]:
    return {**secured(kind, port, authority), "security": "starttls"}


CAPABILITY: Final = b"* CAPABILITY IMAP4rev1 STARTTLS\r\n"


async def _imap_injects(reader: Any, writer: Any) -> None:
    """Answers STARTTLS, and slips in text that would be read as encrypted (CVE-2011-0411)."""
    writer.write(b"* OK ready\r\n")
    tag = (await reader.readline()).split()[0]
    writer.write(CAPABILITY + tag + b" OK\r\n")
    tag = (await reader.readline()).split()[0]
    writer.write(tag + b" OK go on\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n")
    await stand_ins.is_silent(reader, writer)


def test_text_slipped_in_before_encryption_is_refused(authority: Authority, loop: str) -> None:
    reading = look_at(Imap(), serving(_imap_injects), lambda port: starttls("imap", port, authority), loop=loop)
    assert reading.code == "tls_failed", reading
    assert "between" in reading.reason


def test_no_starttls(authority: Authority) -> None:
    hello = says(b"220 hello\r\n", b"250 hello\r\n", then=stand_ins.is_silent)
    reading = look_at(Smtp(), serving(hello), lambda port: starttls("smtp", port, authority))
    assert reading.code == "starttls_missing"

    async def plain(reader: Any, writer: Any) -> None:
        writer.write(b"* OK ready\r\n")
        tag = (await reader.readline()).split()[0]
        writer.write(b"* CAPABILITY IMAP4rev1\r\n" + tag + b" OK\r\n")
        await stand_ins.is_silent(reader, writer)

    assert look_at(Imap(), serving(plain), lambda port: starttls("imap", port, authority)).code == "starttls_missing"


@pytest.mark.parametrize("kind", KINDS)
def test_a_look_that_is_cancelled_leaves_nothing_behind(kind: str, loop: str) -> None:
    """As a worker cancels it when it stops. Unclosed sockets are warnings, and warnings are errors here."""

    async def main() -> None:
        came = asyncio.Event()

        async def silent(reader: Any, writer: Any) -> None:
            came.set()
            await stand_ins.is_silent(reader, writer)

        made, config = KINDS[kind]
        async with serving(silent) as port:
            task = asyncio.ensure_future(made.look(made.config(**config(port)), circumstances(60.0)))
            await came.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main, loop)


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_bytes_make_a_look_raise(noise: bytes, greets: bool) -> None:
    """Any bytes, at the greeting or behind a good one, then the end of the connection."""
    for name, greeting in (
        ("smtp", b"220 hello\r\n250-hello\r\n"),
        ("imap", b"* OK ready\r\n"),
        ("tcp", b""),
        ("http", b""),
    ):
        kind, config = KINDS[name]
        reading = look_at(kind, serving(says((greeting if greets else b"") + noise)), config, 5.0)
        assert reading.verdict in (Verdict.FAILED, Verdict.OK)


def test_a_context_of_ours_always_verifies(authority: Authority) -> None:
    for context in (tls.context(), tls.context(authority.pem)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
