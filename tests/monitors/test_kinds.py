"""What holds of every kind: its table of codes, its configuration, and whom it blames."""

import ast
import asyncio
import errno
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import broadcaster.monitors
from broadcaster.domain.monitor import Kind, Reading, Verdict
from broadcaster.monitors import connecting, findings, imap_talk, probes, smtp_talk, tls, words
from broadcaster.monitors.fields import Settings
from broadcaster.monitors.kinds import KINDS
from tests.monitors.looks import look, run

#: The least that each kind takes.
LEAST: dict[str, dict[str, Any]] = {
    "mail_round_trip": {
        "smtp_host": "smtp.example.org", "imap_host": "imap.example.org", "sender": "a@example.org",
        "recipient": "b@example.org", "username": "somebody", "password": "a-password",
    },
    "smtp": {"host": "smtp.example.org"},
    "imap": {"host": "imap.example.org", "username": "somebody", "password": "a-password"},
    "http": {"url": "https://example.org/"},
    "tcp": {"host": "example.org", "port": 25},
    "dns": {"name": "example.org"},
    "heartbeat": {"interval": 300},
    "microsoft365": {"tenant_id": "t", "client_id": "c", "client_secret": "a-secret"},
    "canary": {"api_url": "https://alerts.example.org", "api_key": "a-key", "recipient": "0199c0de"},
}  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def test_names_and_labels() -> None:
    assert set(KINDS) == set(LEAST)
    assert all(name == kind.name for name, kind in KINDS.items())
    assert len({kind.label for kind in KINDS.values()}) == len(KINDS)


def test_codes(kind: Kind) -> None:
    assert "ok" in kind.codes
    for code, meaning in kind.codes.items():
        assert code.isidentifier()
        assert code == code.lower()
        assert meaning.endswith("."), meaning
        assert meaning[0].isupper(), meaning


def test_every_code_that_is_written_anywhere_is_in_a_table() -> None:
    """What a look may end with is written as a literal where it is raised."""
    tables = set().union(*(kind.codes for kind in KINDS.values()), smtp_talk.CODES, imap_talk.CODES)
    folder = Path(broadcaster.monitors.__file__).parent
    written: set[str] = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Trouble":
                constants = [each.value for each in ast.walk(node.args[0]) if isinstance(each, ast.Constant)]
                written |= {each for each in constants if isinstance(each, str)}
    assert len(written) > 30
    assert written <= tables, written - tables


def test_configurations(kind: Kind) -> None:
    made = kind.config(**LEAST[kind.name])
    assert isinstance(made, Settings)
    schema = kind.config.model_json_schema()
    assert schema["additionalProperties"] is False
    for name, field in schema["properties"].items():
        assert field.get("description"), f"{kind.name}.{name} has no description"
    for name, field in schema["properties"].items():
        if name in ("password", "smtp_password", "oauth_client_secret", "client_secret", "api_key"):
            assert "writeOnly" in str(field), name
    dumped = {**made.model_dump(mode="json"), **{name: LEAST[kind.name].get(name) for name in secrets(kind)}}
    assert kind.config.model_validate(dumped) == made


def secrets(kind: Kind) -> set[str]:
    return {name for name, field in kind.config.model_json_schema()["properties"].items() if "writeOnly" in str(field)}


def test_what_is_given_is_not_repeated_in_errors(kind: Kind) -> None:
    whole = {**LEAST[kind.name], **dict.fromkeys(secrets(kind), "hunter2\r\nhunter2"), "stray": "hunter2"}
    with pytest.raises(ValidationError) as caught:
        kind.config(**whole)
    assert "hunter2" not in str(caught.value)


MAIL = LEAST["mail_round_trip"]


@pytest.mark.parametrize(
    ("name", "config", "sentence"),
    [
        ("smtp", {"host": "h", "security": "none", "auth": "password", "username": "u", "password": "p"}, "unencrypted"),
        ("smtp", {"host": "h", "auth": "password", "username": "u"}, "needs a password"),
        ("smtp", {"host": "h", "auth": "password", "password": "p"}, "needs a user name"),
        ("smtp", {"host": "h", "auth": "xoauth2", "username": "u"}, "oauth_token_url"),
        ("imap", {"host": "h"}, "needs a user name"),
        ("imap", {"host": "h", "auth": "none", "ca_certificates": "nonsense"}, "PEM"),
        ("imap", {"host": "169.254.169.254", "auth": "none"}, "metadata"),
        ("imap", {"host": "a b", "auth": "none"}, "host name"),
        ("tcp", {"host": "fe80::1", "port": 1}, "link-local"),
        ("tcp", {"host": "h", "port": 0}, "greater than or equal to 1"),
        ("http", {"url": "http://169.254.169.254/"}, "metadata"),
        ("http", {"url": "http://[::ffff:169.254.169.254]/"}, "metadata"),
        ("http", {"url": "https://user:pass@example.org/"}, "no user name"),
        ("http", {"url": "file:///etc/passwd"}, "http or https"),
        ("http", {"url": "https://example.org/", "method": "HEAD", "text": "x"}, "choose GET"),
        ("dns", {"name": "h", "resolver_port": 5353}, "needs a resolver"),
        ("dns", {"name": "h", "resolver": "dns.example.org"}, "IP address"),
        ("dns", {"name": "h", "expected": ["not an address"]}, "no A record"),
        ("dns", {"name": "h", "type": "MX", "expected": ["first mx.example.org"]}, "no MX record"),
        ("mail_round_trip", {**MAIL, "imap_auth": "none"}, "without signing in"),
        ("mail_round_trip", {**MAIL, "smtp_username": "u"}, "neither"),
        ("mail_round_trip", {**MAIL, "degraded_after": 40}, "above deliver_within"),
        ("mail_round_trip", {**MAIL, "recipient": "b@example.org, c@example.org"}, "plain mail address"),
        ("mail_round_trip", {**MAIL, "folder": "INBOX\r\nA1 LOGOUT"}, "pattern"),
        ("microsoft365", {**LEAST["microsoft365"], "graph_url": "https://graph.microsoft.com/?a=b"}, "before any"),
        ("canary", {**LEAST["canary"], "recipient": "a/b"}, "pattern"),
    ],
)
def test_rules_between_fields_are_plain_sentences(name: str, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        KINDS[name].config(**config)
    assert sentence in str(caught.value)


# Whose fault it is

CASES: list[tuple[OSError, bool, Verdict, str]] = [
    (OSError(errno.ENETUNREACH, ""), False, Verdict.UNKNOWN, "no_network"),
    (OSError(errno.EHOSTUNREACH, ""), False, Verdict.UNKNOWN, "no_network"),
    (OSError(errno.EHOSTUNREACH, ""), True, Verdict.FAILED, "host_unreachable"),
    (OSError(errno.ENETUNREACH, ""), True, Verdict.FAILED, "host_unreachable"),
    (OSError(errno.EMFILE, ""), True, Verdict.UNKNOWN, "our_limits"),
    (OSError(errno.ENOBUFS, ""), True, Verdict.UNKNOWN, "our_limits"),
    (OSError(errno.EPERM, ""), True, Verdict.UNKNOWN, "no_network"),
    (ConnectionRefusedError(errno.ECONNREFUSED, ""), True, Verdict.FAILED, "connection_refused"),
    (ConnectionResetError(errno.ECONNRESET, ""), True, Verdict.FAILED, "connection_lost"),
    (TimeoutError(errno.ETIMEDOUT, ""), True, Verdict.FAILED, "connect_timeout"),
]


@pytest.mark.parametrize("name", ["tcp", "smtp", "imap"])
@pytest.mark.parametrize(("error", "routed", "verdict", "code"), CASES)
def test_faults_of_connecting(
    error: OSError, routed: bool, verdict: Verdict, code: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> Reading:
        async def fails(*_: Any) -> None:
            raise error

        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", fails)
        monkeypatch.setattr(connecting, "has_route", lambda *_: routed)
        config = {**LEAST[name], "host": "127.0.0.1"}
        return await look(KINDS[name], config)

    found = run(main)
    assert (found.verdict, found.code) == (verdict, code), found


@pytest.mark.parametrize(
    ("number", "verdict", "code"),
    [
        (socket.EAI_NONAME, Verdict.FAILED, "name_not_found"),
        (socket.EAI_AGAIN, Verdict.UNKNOWN, "resolver_failed"),
        (socket.EAI_FAIL, Verdict.UNKNOWN, "resolver_failed"),
    ],
)
@pytest.mark.parametrize("name", ["tcp", "smtp", "imap", "http"])
def test_faults_of_names(number: int, verdict: Verdict, code: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> Reading:
        def fails(*_: Any) -> None:
            raise socket.gaierror(number, "")

        monkeypatch.setattr(socket, "getaddrinfo", fails)
        return await look(KINDS[name], LEAST[name])

    found = run(main)
    assert (found.verdict, found.code) == (verdict, code), found


@pytest.mark.parametrize("name", ["tcp", "http"])
def test_a_resolver_that_hangs_is_our_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And however many names hang, one that is known is still found: each has a thread of its own."""
    answers, known = threading.Event(), socket.getaddrinfo
    config = LEAST[name]

    def hangs(host: str, *rest: Any) -> Any:
        if host not in ("localhost", "127.0.0.1"):
            answers.wait(30)
        return known(host, *rest)

    async def main() -> tuple[list[Reading], Reading]:
        monkeypatch.setattr(socket, "getaddrinfo", hangs)
        hanging = [asyncio.ensure_future(look(KINDS[name], config, 0.4)) for _ in range(20)]
        await asyncio.sleep(0)
        here = await look(KINDS["tcp"], {"host": "localhost", "port": 1}, 5.0)
        found = await asyncio.gather(*hanging)
        answers.set()
        return found, here

    found, here = run(main, "uvloop")
    assert {(each.verdict, each.code) for each in found} == {(Verdict.UNKNOWN, "resolver_failed")}
    assert here.code == "connection_refused"


def test_an_address_waits_for_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names of a dead resolver are being asked for."""

    async def main() -> Reading:
        with ThreadPoolExecutor(1) as full:
            go_on = threading.Event()
            full.submit(go_on.wait)
            monkeypatch.setattr(connecting, "_RESOLVING", full)
            try:
                return await look(KINDS["tcp"], {"host": "127.0.0.1", "port": 1}, 5.0)
            finally:
                go_on.set()

    assert run(main).code == "connection_refused"


def test_the_fault_that_says_most_about_the_server_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with an IPv6 address that we have no way to, and an IPv4 one that refuses."""

    async def main() -> Reading:
        loop = asyncio.get_running_loop()

        def two(*_: Any) -> Any:
            return [(socket.AF_INET6, 1, 6, "", ("2001:db8::1", 25, 0, 0)), (socket.AF_INET, 1, 6, "", ("192.0.2.1", 25))]

        async def fails(sock: socket.socket, address: Any) -> None:
            raise OSError(errno.ENETUNREACH if ":" in address[0] else errno.ECONNREFUSED, "")

        monkeypatch.setattr(socket, "getaddrinfo", two)
        monkeypatch.setattr(loop, "sock_connect", fails)
        monkeypatch.setattr(connecting, "has_route", lambda *_: False)
        return await look(KINDS["tcp"], LEAST["tcp"])

    assert run(main).code == "connection_refused"


def test_a_route_to_ourselves_is_always_there() -> None:
    assert connecting.has_route(socket.AF_INET, ("127.0.0.1", 9))


# Probes, certificates and strangers' words


@given(
    st.integers(10**9, 10**11), st.integers(1, 600), st.binary(min_size=16, max_size=16), st.sampled_from(["", "\r\n", "\t"])
)
def test_probes_are_read_as_they_are_written(sent: int, wait: int, token: bytes, folded: str) -> None:
    probe = probes.Probe(probes.route("a", 1), sent, sent + wait, token.hex())
    raw = probes.message(probe, "a@example.org", "b@example.org").replace(
        b" " + token.hex().encode(), f"{folded} {token.hex()}".encode()
    )
    assert probes.read(raw) == probe
    assert probe.is_late(sent + wait + 1, probe.route)
    assert not probe.may_go(sent + wait, probe.route)
    assert not probe.may_go(sent + wait + 1, "0" * 16)


def test_internal_dates() -> None:
    assert probes.internal_date(b" 5-Nov-2026 09:10:00 +0100") == 1793866200.0
    assert probes.internal_date(b"rubbish") is None


@given(st.floats(-500, 500), st.integers(0, 365))
def test_certificate_days(days: float, wanted: int) -> None:
    now = 1_795_599_674.0
    ends = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(now + days * 86_400))
    left = tls.days_left({"notAfter": ends}, now)
    assert left is not None
    assert abs(left - days) < 0.001
    codes = {**findings.WELL, **findings.TLS}
    reading = findings.well(codes, "Well.", latency=0.1, degraded_after=1.0, days=left, certificate_days=wanted)
    assert reading.code == ("certificate_ends_soon" if left < wanted else "ok")


@given(st.text(max_size=500) | st.binary(max_size=500))
def test_strangers_words_are_printable_and_short(text: str | bytes) -> None:
    shown = words.printable(text)
    assert len(shown) <= 200
    assert shown.isprintable()
    assert words.printable(f"550 <nurse@example.org> {'x' * 5}hunter2", ("hunter2",)) == "550 <…> xxxxx…"
