"""Names: against a real dnsmasq, and a stand-in for what dnsmasq would never say."""

import asyncio
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.domain.monitor import Reading, Verdict
from broadcaster.monitors.dns import Dns, RecordType, matches
from tests.conftest import skip_loudly
from tests.monitors.looks import look, run
from tests.ports import free_port

LONG = [f"txt-record-number-{n}-" + "x" * 200 for n in range(20)]  # does not fit into one datagram


@pytest.fixture(scope="module")
def dnsmasq() -> Iterator[int]:
    """The port of a resolver of our own, with a zone of our own."""
    binary = shutil.which("dnsmasq") or shutil.which("dnsmasq", path="/usr/sbin")
    if binary is None:
        skip_loudly("dnsmasq", "apt-get install dnsmasq")
        raise AssertionError("skip_loudly skips")
    folder = Path(tempfile.mkdtemp(prefix="ab-dns-", dir="/tmp"))
    port = free_port()
    records = [
        "host-record=mail.probe.test,192.0.2.10,2001:db8::10", "host-record=mail.probe.test,192.0.2.11",
        "mx-host=probe.test,mx1.probe.test,10", "mx-host=probe.test,mx2.probe.test,20",
        "txt-record=probe.test,v=spf1 -all", "cname=autodiscover.probe.test,mail.probe.test",
        *(f"txt-record=long.probe.test,{text}" for text in LONG),
    ]  # fmt: skip
    common = ["no-resolv", "no-hosts", "no-poll", "local=/test/", f"port={port}", "listen-address=127.0.0.1"]
    own = ["bind-interfaces", "cache-size=0", "user=root", "group=root", f"pid-file={folder}/pid"]
    (folder / "conf").write_text("\n".join([*common, *own, *records]) + "\n")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "--keep-in-foreground", f"--conf-file={folder}/conf", "--log-facility=-"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 10
        while not _listens(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def seen(port: int, timeout: float = 10.0, loop: str = "asyncio", **config: Any) -> Reading:
    async def main() -> Reading:
        return await look(Dns(), {"resolver": "127.0.0.1", "resolver_port": port, **config}, timeout)

    return run(main, loop)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"name": "mail.probe.test"}, "ok"),
        ({"name": "mail.probe.test", "expected": ["192.0.2.11", "192.0.2.10"]}, "ok"),
        ({"name": "mail.probe.test", "expected": ["192.0.2.10"]}, "wrong_answer"),
        ({"name": "mail.probe.test", "expected": ["192.0.2.10"], "match": "some"}, "ok"),
        ({"name": "mail.probe.test", "expected": ["192.0.2.99"], "match": "some"}, "wrong_answer"),
        ({"name": "mail.probe.test", "type": "AAAA", "expected": ["2001:DB8:0::10"]}, "ok"),
        ({"name": "probe.test", "type": "MX", "expected": ["10 mx1.probe.test", "20 MX2.probe.test."]}, "ok"),
        ({"name": "probe.test", "type": "MX", "expected": ["mx1.probe.test", "mx2.probe.test"]}, "ok"),
        ({"name": "probe.test", "type": "MX", "expected": ["30 mx1.probe.test"], "match": "some"}, "wrong_answer"),
        ({"name": "probe.test", "type": "TXT", "expected": ["v=spf1 -all"]}, "ok"),
        ({"name": "autodiscover.probe.test", "type": "CNAME", "expected": ["mail.probe.test"]}, "ok"),
        ({"name": "autodiscover.probe.test", "expected": ["192.0.2.10"], "match": "some"}, "ok"),
        ({"name": "long.probe.test", "type": "TXT", "expected": LONG[:1], "match": "some"}, "ok"),
        ({"name": "nowhere.test"}, "nxdomain"),
        ({"name": "probe.test", "type": "AAAA"}, "no_records"),
        ({"name": "mail.probe.test", "dnssec": True}, "not_authenticated"),
        ({"name": "elsewhere.example"}, "query_refused"),
        ({"name": "mail.probe.test", "degraded_after": 0.000001}, "slow"),
    ],
)
def test_a_real_resolver(dnsmasq: int, config: dict[str, Any], code: str, loop: str) -> None:
    found = seen(dnsmasq, loop=loop, **config)
    assert found.code == code, found
    if code == "wrong_answer":
        assert found.detail["found"]


# What a stand-in says

Answer = Callable[[bytes], list[bytes]]


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._transport: asyncio.DatagramTransport | None = None
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        self.asked += 1
        assert self._transport is not None
        for answer in self._answer(data):
            self._transport.sendto(answer, address)


@asynccontextmanager
async def udp(answer: Answer) -> AsyncIterator[tuple[int, _Udp]]:
    made = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Udp(answer), local_addr=("127.0.0.1", 0))
    transport, protocol = made
    try:
        yield transport.get_extra_info("sockname")[1], protocol
    finally:
        transport.abort()
        await asyncio.sleep(0)  # lets the transport let its socket go


def replies(code: dns.rcode.Rcode = dns.rcode.NOERROR, flags: int = 0, records: bool = True) -> Answer:
    def answer(wire: bytes) -> list[bytes]:
        response = dns.message.make_response(dns.message.from_wire(wire))
        response.set_rcode(code)
        response.flags |= flags
        if records:
            response.answer.append(dns.rrset.from_text(response.question[0].name, 60, "IN", "A", "192.0.2.10"))
        return [response.to_wire()]

    return answer


def answered(answer: Answer, timeout: float = 10.0, loop: str = "asyncio", **config: Any) -> Reading:
    async def main() -> Reading:
        async with udp(answer) as (port, _):
            whole = {"name": "mail.example.org", "resolver": "127.0.0.1", "resolver_port": port, **config}
            return await look(Dns(), whole, timeout)

    return run(main, loop)


@pytest.mark.parametrize(
    ("answer", "config", "code"),
    [
        (replies(dns.rcode.SERVFAIL, records=False), {}, "servfail"),
        (replies(dns.rcode.REFUSED, records=False), {}, "query_refused"),
        (replies(dns.rcode.NXDOMAIN, records=False), {}, "nxdomain"),
        (replies(dns.rcode.NOTIMP, records=False), {}, "error_answer"),
        (replies(records=False), {}, "no_records"),
        (replies(flags=dns.flags.AD), {"dnssec": True}, "ok"),
        (replies(), {"dnssec": True}, "not_authenticated"),
        (replies(), {}, "ok"),
        (lambda wire: [b"\x00" * 5], {}, "bad_answer"),
        (lambda wire: [wire[:2] + b"\x84\x00" + b"\xff" * 60], {}, "bad_answer"),
        (lambda wire: [wire], {}, "bad_answer"),  # our own question is no answer
    ],
)
def test_answers(answer: Answer, config: dict[str, Any], code: str, loop: str) -> None:
    found = answered(answer, loop=loop, **config)
    assert found.code == code, found
    assert found.verdict is (Verdict.OK if code == "ok" else Verdict.FAILED)


def test_a_silent_resolver_is_asked_again_and_has_failed() -> None:
    async def main() -> None:
        async with udp(lambda _: []) as (port, server):
            found = await look(Dns(), {"name": "example.org", "resolver": "127.0.0.1", "resolver_port": port}, 0.6)
            assert (found.verdict, found.code) == (Verdict.FAILED, "no_answer"), found
            assert server.asked == 3

    run(main)


def test_one_lost_packet_is_no_outage(loop: str) -> None:
    asked = 0

    def second_time(wire: bytes) -> list[bytes]:
        nonlocal asked
        asked += 1
        return replies()(wire) if asked > 1 else []

    assert answered(second_time, timeout=3.0, loop=loop).code == "ok"


def test_nobody_listens(loop: str) -> None:
    found = seen(free_port(), name="example.org", loop=loop, timeout=5.0)
    assert (found.verdict, found.code) == (Verdict.FAILED, "connection_refused"), found


@pytest.mark.parametrize("servers", [["127.0.0.1"], []])
def test_the_systems_own_resolver_is_our_own_trouble(servers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens there, or none is configured: that says nothing about the name."""

    class Configured:
        nameservers = servers

        def __init__(self) -> None:
            if not servers:
                raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver, "Resolver", Configured)

    async def main() -> Reading:
        return await look(Dns(), {"name": "example.org"}, 5.0)

    found = run(main)
    assert (found.verdict, found.code) == (Verdict.UNKNOWN, "resolver_failed"), found


ADDRESSES = st.lists(st.ip_addresses(v=4).map(str), max_size=6)


@given(ADDRESSES, ADDRESSES)
def test_sets_and_subsets(expected: list[str], found: list[str]) -> None:
    assert matches(RecordType.A, expected, found, True) == (set(expected) == set(found))
    assert matches(RecordType.A, expected, found, False) == (set(expected) <= set(found))


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["a.test", "B.test.", "c.TEST"])), min_size=1, max_size=5))
def test_an_mx_without_a_number_stands_for_any(found: list[tuple[int, str]]) -> None:
    texts = [f"{number} {host}" for number, host in found]
    assert matches(RecordType.MX, texts, texts, True)
    assert matches(RecordType.MX, [host.lower() for _, host in found], texts, True)
