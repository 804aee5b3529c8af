"""A name in the DNS: is it there, with the expected answers, and is the answer authenticated?

Asked over UDP, three times if need be (a lost packet is no outage), and over TCP where the answer does not fit (RFC 7766).
A resolver of one's own choice that stays silent has failed; the system's own says nothing about the name.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, Literal

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
from pydantic import Field, model_validator

from broadcaster.domain.monitor import Circumstances, Reading, Verdict
from broadcaster.monitors import fields, findings, words
from broadcaster.monitors.findings import Code, Codes, Trouble, clock, deadline, remaining, step

TRIES: Final = 3

CODES: Final[Codes] = {
    **findings.WELL,
    **{name: code for name, code in findings.OURS.items() if name != "forbidden_address"},
    "nxdomain": Code(Verdict.FAILED, "The name does not exist (NXDOMAIN)."),
    "no_records": Code(Verdict.FAILED, "The name exists, but has no record of this type."),
    "servfail": Code(Verdict.FAILED, "The resolver could not find out (SERVFAIL): broken delegation, DNSSEC or servers."),
    "query_refused": Code(Verdict.FAILED, "The resolver refused to answer us (REFUSED)."),
    "error_answer": Code(Verdict.FAILED, "The resolver answered with an error."),
    "bad_answer": Code(Verdict.FAILED, "The resolver's answer could not be read."),
    "wrong_answer": Code(Verdict.FAILED, "The answer is not the expected one."),
    "not_authenticated": Code(Verdict.FAILED, "The answer is not authenticated by DNSSEC (no AD flag)."),
    "no_answer": Code(Verdict.FAILED, "The resolver did not answer in time."),
    "connection_refused": Code(Verdict.FAILED, "Nothing answers DNS at the resolver's address."),
    "connect_timeout": Code(Verdict.FAILED, "The resolver did not answer when we connected by TCP."),
    "connection_lost": Code(Verdict.FAILED, "The resolver broke off its answer."),
    "host_unreachable": Code(Verdict.FAILED, "The network says that the resolver cannot be reached."),
}
_BY_RCODE: Final = {
    dns.rcode.NXDOMAIN: "nxdomain",
    dns.rcode.SERVFAIL: "servfail",
    dns.rcode.REFUSED: "query_refused",
}


class RecordType(StrEnum):
    """Record types that can be asked for."""

    A = "A"
    AAAA = "AAAA"
    MX = "MX"
    TXT = "TXT"
    CNAME = "CNAME"


class Config(fields.Settings):
    """One question and its answer."""

    name: fields.Host = Field(description="The name to ask for.")
    type: RecordType = Field(RecordType.A, description="The record type.")
    expected: list[fields.Line] = Field(
        default=[],
        max_length=50,
        description='Expected answers; none: any will do. MX as "10 mx.example.org", or without the number for any.',
    )
    match: Literal["all", "some"] = Field(
        "all", description="all: exactly the expected answers. some: they must be among the answers."
    )
    resolver: fields.IP | None = Field(
        None, description="Address of the resolver or name server to ask; default: the system's."
    )
    resolver_port: fields.Port = Field(53, description="Its port.")
    dnssec: bool = Field(False, description="Demand that the resolver has validated the answer (the AD flag).")
    degraded_after: fields.DegradedAfter = 2.0

    @model_validator(mode="after")
    def _whole(self) -> "Config":
        if self.resolver is None and self.resolver_port != 53:
            raise ValueError("resolver_port needs a resolver")
        for answer in self.expected:
            normal(self.type, answer)
        return self


class Dns:
    """Kind. Knows no state."""

    name: Final = "dns"
    label: Final = "A name in the DNS"
    config: Final = Config
    codes: Final = findings.meanings(CODES)

    async def look(self, config: Config, circumstances: Circumstances) -> Reading:
        try:
            return await _look(config, deadline(circumstances))
        except Trouble as trouble:
            return trouble.reading(CODES)


async def _look(config: Config, until: float) -> Reading:
    began = clock()
    response = await _ask(config, until)
    latency = clock() - began
    found = _read(config, response)
    detail = {"found": words.printable(", ".join(sorted(found)))}
    if config.expected and not matches(config.type, config.expected, found, config.match == "all"):
        raise Trouble("wrong_answer", detail={**detail, "expected": words.printable(", ".join(sorted(config.expected)))})
    if config.dnssec and not response.flags & dns.flags.AD:
        raise Trouble("not_authenticated", detail=detail)
    return findings.well(
        CODES, f"The resolver answered in {words.seconds(latency)}.", latency=latency, degraded_after=config.degraded_after,
        detail=detail,
    )  # fmt: skip


async def _ask(config: Config, until: float) -> dns.message.QueryMessage:
    """The response, whatever its code. Raises Trouble."""
    query = dns.message.make_query(config.name, config.type.value, want_dnssec=config.dnssec, use_edns=0)
    if config.dnssec:
        query.flags |= dns.flags.AD  # RFC 6840 §5.7: we understand the flag
    servers = [config.resolver] if config.resolver else _system_resolvers()
    turns = servers * TRIES
    trouble: Trouble | None = None
    for left, server in zip(range(len(turns), 0, -1), turns, strict=True):
        now = asyncio.get_running_loop().time()
        try:
            async with step("query", now + remaining(until) / left):
                return await _exchange(query, server, config.resolver_port)
        except Trouble as error:
            trouble = error
            if trouble.code not in ("no_answer", "connection_lost", "connection_refused") and config.resolver:
                break
    if trouble is None or (not config.resolver and CODES[trouble.code].verdict is Verdict.FAILED):
        raise Trouble("resolver_failed")
    raise trouble


async def _exchange(query: dns.message.QueryMessage, server: str, port: int) -> dns.message.QueryMessage:
    """Over a connected socket, so that the system tells us when nobody listens there."""
    family = dns.inet.af_for_address(server)
    backend: Any = dns.asyncbackend.get_backend("asyncio")
    sock = await backend.make_socket(family, socket.SOCK_DGRAM, 0, None, (server, port))
    try:
        response, _ = await dns.asyncquery.udp_with_fallback(
            query, server, port=port, ignore_unexpected=True, udp_sock=sock, backend=backend
        )
    except (dns.exception.DNSException, ValueError):
        raise Trouble("bad_answer") from None
    finally:
        await sock.close()
    if not isinstance(response, dns.message.QueryMessage):  # an UPDATE, say
        raise Trouble("bad_answer")
    return response


def _system_resolvers() -> list[str]:
    """Addresses from /etc/resolv.conf. Raises Trouble."""
    try:
        return [str(server) for server in dns.resolver.Resolver().nameservers if isinstance(server, str)]
    except (dns.exception.DNSException, OSError, ValueError):
        raise Trouble("resolver_failed") from None


def _read(config: Config, response: dns.message.QueryMessage) -> list[str]:
    """The answers in normal form, CNAMEs followed. Raises Trouble where there are none."""
    code = response.rcode()
    if code != dns.rcode.NOERROR:
        raise Trouble(_BY_RCODE.get(code, "error_answer"), detail={"rcode": dns.rcode.to_text(code)})
    try:
        answer = response.resolve_chaining().answer
    except (dns.exception.DNSException, ValueError):
        raise Trouble("bad_answer") from None
    if answer is None or answer.rdtype != dns.rdatatype.from_text(config.type.value):
        raise Trouble("no_records")
    return [normal(config.type, _text(config.type, item)) for item in answer]


def _text(kind: RecordType, item: Any) -> str:
    return b"".join(item.strings).decode("utf-8", "replace") if kind is RecordType.TXT else item.to_text()


def normal(kind: RecordType, text: str) -> str:
    """An answer in the one form that can be compared. Raises ValueError, with a sentence, for what is no such answer."""
    if kind is RecordType.TXT:
        return text
    try:
        if kind is RecordType.A:
            return str(ipaddress.IPv4Address(text))
        if kind is RecordType.AAAA:
            return str(ipaddress.IPv6Address(text))
        preference, _, host = text.rpartition(" ") if kind is RecordType.MX else ("", "", text)
        plain = dns.name.from_text(host).to_text(omit_final_dot=True).lower()
        return f"{int(preference)} {plain}" if preference.strip() else plain
    except (ValueError, dns.exception.DNSException):
        raise ValueError(f"an expected answer is no {kind.value} record") from None


def matches(kind: RecordType, expected: Sequence[str], found: Sequence[str], exactly: bool) -> bool:
    """Whether the answers, as a set, are the expected ones, or at least have them among them."""
    wanted, there = {normal(kind, each) for each in expected}, {normal(kind, each) for each in found}
    if kind is RecordType.MX and not any(" " in each for each in wanted):
        there = {each.rpartition(" ")[2] for each in there}
    return wanted == there if exactly else wanted <= there
