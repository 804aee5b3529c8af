"""The kind that counts: hand a message in, and see it arrive.

Everything else can look well while mail is lost: Postfix took the message in 43 ms and discarded it, and only this noticed.
From outside nobody can tell a message that is stuck in a queue from one that is lost: the reading says "did not arrive", and
when it does arrive later, the next reading says so (``late_probes``). A message that came back as undeliverable is certain.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pydantic import Field, model_validator

from broadcaster.domain.monitor import Circumstances, Reading, Verdict
from broadcaster.monitors import fields, findings, imap_talk, oauth, probes, smtp_talk, tls
from broadcaster.monitors.fields import Auth, Security
from broadcaster.monitors.findings import Code, Codes, Trouble, clock, deadline, remaining
from broadcaster.monitors.words import seconds

CODES: Final[Codes] = {
    **findings.WELL,
    "submission_unreachable": Code(Verdict.FAILED, "The server that takes mail in could not be reached or broke off."),
    "submission_refused": Code(Verdict.FAILED, "The server refused to take our message in."),
    "accepted_not_delivered": Code(Verdict.FAILED, "The message was taken in, but did not arrive in time: stuck or lost."),
    "returned": Code(Verdict.FAILED, "The message was taken in, then came back as undeliverable."),
    "mailbox_unreachable": Code(Verdict.FAILED, "The mailbox could not be reached or opened."),
    **findings.SIGNING_IN,
    **findings.TLS,
    **findings.TOKENS,
    **findings.OURS,
}
#: Codes of a conversation that stay as they are; ``side`` in the detail says whose. All others mean "unreachable".
_KEPT: Final = frozenset({*findings.SIGNING_IN, *findings.TLS, *findings.OURS, *findings.TOKENS})
_SUBMISSION: Final = {"submission_refused": "submission_refused", "greeting_refused": "submission_refused",
                      "ehlo_refused": "submission_refused", "starttls_missing": "tls_failed"}  # fmt: skip
_MAILBOX: Final = {"starttls_missing": "tls_failed"}

#: Seconds between looks into the mailbox: the first, how it grows, the longest.
_POLL: Final = (0.1, 1.5, 2.0)
#: Earlier probes that are looked at in one go.
_MOST: Final = 200


class Config(fields.OAuth):
    """Both ends of the trip. ``username`` and ``password`` are the mailbox's, and the submission's unless it has its own."""

    smtp_host: fields.Host = Field(description="The server that takes mail in.")
    smtp_port: fields.Port | None = Field(None, description="Default: 587 for starttls, 465 for tls, 25 for none.")
    smtp_security: Security = Field(Security.STARTTLS, description="How that connection is encrypted.")
    smtp_auth: Auth = Field(Auth.PASSWORD, description="How we sign in there.")
    smtp_username: fields.Line | None = Field(None, description="If it is not the mailbox's.")
    smtp_password: fields.Secret | None = Field(None, description="If it is not the mailbox's.")
    sender: fields.Mailbox = Field(description="The address that the message is from.")
    recipient: fields.Mailbox = Field(description="The address that it goes to; it must end up in the mailbox.")
    imap_host: fields.Host = Field(description="The server that the mailbox is read from.")
    imap_port: fields.Port | None = Field(None, description="Default: 993 for tls, else 143.")
    imap_security: Security = Field(Security.TLS, description="How that connection is encrypted.")
    imap_auth: Auth = Field(Auth.PASSWORD, description="How we sign in there: password or xoauth2.")
    username: fields.Line = Field(description="The mailbox's user name.")
    password: fields.Secret | None = Field(None, description="The mailbox's password.")
    folder: fields.Line = Field("INBOX", description="The folder that it arrives in, as the server spells it.")
    deliver_within: float = Field(
        30.0, ge=1, le=600, description="Seconds that the message may take from being accepted to being seen."
    )
    degraded_after: fields.DegradedAfter = 15.0
    certificate_days: fields.CertificateDays = 14
    ca_certificates: fields.Certificates = None
    allow_cleartext: bool = Field(False, description=fields.ALLOW_CLEARTEXT)

    @model_validator(mode="after")
    def _whole(self) -> "Config":
        if self.imap_auth is Auth.NONE:
            raise ValueError("imap: a mailbox cannot be read without signing in")
        if (self.smtp_username is None) != (self.smtp_password is None) and self.smtp_auth is Auth.PASSWORD:
            raise ValueError("smtp: give both smtp_username and smtp_password, or neither")
        for what, auth, security, user, password in (
            ("smtp", self.smtp_auth, self.smtp_security, self.submission_user, self.smtp_password or self.password),
            ("imap", self.imap_auth, self.imap_security, self.username, self.password),
        ):
            fields.check_sign_in(what, auth, security, user, password, self, self.allow_cleartext)
        if self.degraded_after > self.deliver_within:
            raise ValueError("degraded_after must not be above deliver_within")
        return self

    @property
    def submission_user(self) -> str:
        return self.smtp_username or self.username

    @property
    def route(self) -> str:
        return probes.route(self.smtp_host, self.smtp_port, self.sender, self.recipient, self.imap_host, self.folder)

    def hidden(self) -> tuple[str, ...]:
        """What must never show, whatever a server echoes."""
        own = [s.get_secret_value() for s in (self.password, self.smtp_password, self.oauth_client_secret) if s is not None]
        return (*own, self.username, self.submission_user, self.sender, self.recipient)


@dataclass(slots=True)
class _Trip:
    """One message under way. ``began``, ``accepted``: on ``clock``; ``until``: on the loop's."""

    config: Config
    probe: probes.Probe
    circumstances: Circumstances
    until: float
    began: float
    accepted: float = 0.0
    days: list[float] = field(default_factory=list)
    detail: dict[str, str | int | float | bool | None] = field(default_factory=dict)

    def learn_days(self, side: str, days: float | None) -> None:
        if days is not None:
            self.days.append(days)
            self.detail[f"{side}_certificate_days"] = round(days, 1)


class MailRoundTrip:
    """``token`` makes 32 random hex digits; ``clock`` (seconds since the epoch) is for how long OAuth tokens are good."""

    name: Final = "mail_round_trip"
    label: Final = "Mail from end to end"
    config: Final = Config
    codes: Final = findings.meanings(CODES)

    def __init__(
        self, token: Callable[[], str] = lambda: secrets.token_hex(16), clock: Callable[[], float] = time.time
    ) -> None:
        self._token = token
        self._tokens = oauth.Tokens(clock)

    async def look(self, config: Config, circumstances: Circumstances) -> Reading:
        began, until = clock(), deadline(circumstances)
        sent = int(circumstances.now)
        probe = probes.Probe(config.route, sent, sent + int(circumstances.timeout) + 1, self._token())
        trip = _Trip(config, probe, circumstances, until, began)
        try:
            await self._submit(trip)
            return await self._find(trip)
        except Trouble as trouble:
            return trouble.reading(CODES, **trip.detail)

    # Handing in

    async def _submit(self, trip: _Trip) -> None:
        config = trip.config
        port = config.smtp_port or smtp_talk.PORTS[config.smtp_security]
        message = probes.message(trip.probe, config.sender, config.recipient)
        try:
            secret = await oauth.secret(
                self._tokens, config, config.smtp_auth, config.smtp_password or config.password, trip.until
            )
            async with smtp_talk.talk(
                config.smtp_host,
                port,
                config.smtp_security,
                tls.context(config.ca_certificates),
                trip.until,
                config.hidden(),
            ) as talk:
                trip.learn_days("smtp", talk.certificate_days(trip.circumstances.now))
                if config.smtp_auth is not Auth.NONE:
                    await talk.sign_in(config.smtp_auth, config.submission_user, secret, trip.until)
                trip.detail["accepted_as"] = await talk.submit(config.sender, config.recipient, message, trip.until)
                trip.accepted = clock()
        except Trouble as trouble:
            self._forget(config, trouble, config.smtp_auth)
            raise _sided(trouble, "submission", "submission_unreachable", _SUBMISSION) from None
        trip.detail["submit_seconds"] = round(trip.accepted - trip.began, 3)

    # Finding it

    async def _find(self, trip: _Trip) -> Reading:
        config = trip.config
        port = config.imap_port or imap_talk.PORTS[config.imap_security]
        try:
            secret = await oauth.secret(self._tokens, config, config.imap_auth, config.password, trip.until)
            async with imap_talk.talk(
                config.imap_host,
                port,
                config.imap_security,
                tls.context(config.ca_certificates),
                trip.until,
                config.hidden(),
            ) as talk:
                trip.learn_days("imap", talk.certificate_days(trip.circumstances.now))
                await talk.sign_in(config.imap_auth, config.username, secret, trip.until)
                await talk.select(config.folder, trip.until)
                return await self._wait(trip, talk)
        except Trouble as trouble:
            self._forget(config, trouble, config.imap_auth)
            raise _sided(trouble, "mailbox", "mailbox_unreachable", _MAILBOX) from None

    async def _wait(self, trip: _Trip, talk: imap_talk.Talk) -> Reading:
        loop = asyncio.get_running_loop()
        reserve = min(2.0, trip.circumstances.timeout * 0.1)  # for cleaning up
        ends = min(loop.time() + trip.config.deliver_within - (clock() - trip.accepted), trip.until - reserve)
        pause, growth, longest = _POLL
        while not (found := await _arrived(trip, talk)) and (left := ends - loop.time()) > 0:
            await asyncio.sleep(min(pause, left))
            pause = min(pause * growth, longest)
        arrived = clock()
        waited = arrived - trip.accepted
        returned = not found and await _came_back(trip, talk)
        await _clean_up(trip, talk, found)
        if returned:
            raise Trouble("returned")
        if not found:
            raise Trouble(
                "accepted_not_delivered",
                f"The message was taken in, but did not arrive within {seconds(waited)}: it is stuck or lost.",
            )
        trip.detail["arrival_seconds"] = round(waited, 3)
        latency = arrived - trip.began
        return findings.well(
            CODES, f"A message arrived after {seconds(latency)}.", latency=latency, days=min(trip.days, default=None),
            degraded_after=trip.config.degraded_after, certificate_days=trip.config.certificate_days, detail=trip.detail,
        )  # fmt: skip

    def _forget(self, config: Config, trouble: Trouble, auth: Auth) -> None:
        """A refused token is not tried again."""
        if trouble.code == "auth_refused" and auth is Auth.XOAUTH2:
            self._tokens.forget(*oauth.wanted(config))


def _sided(trouble: Trouble, side: str, otherwise: str, special: dict[str, str]) -> Trouble:
    """A conversation's trouble in the words of the round trip; ``cause`` keeps the conversation's own code."""
    if trouble.code in ("accepted_not_delivered", "returned"):
        return trouble
    code = trouble.code if trouble.code in _KEPT else special.get(trouble.code, otherwise)
    reason = trouble.reason
    if code == "submission_refused":
        reason = f"The server refused to take our message in ({trouble.detail.get('smtp_code', 'no code')})."
    elif code == "auth_refused":
        reason = f"The {_SIDES[side]} server refused our user name and password, or token."
    elif code != trouble.code:
        known = smtp_talk.CODES.get(trouble.code) or imap_talk.CODES.get(trouble.code)
        reason = f"{CODES[code].meaning[:-1]}: {known.meaning[0].lower()}{known.meaning[1:]}" if known else None
    detail = {"side": side, **trouble.detail}
    if code != trouble.code:
        detail["cause"] = trouble.code
    return Trouble(code, reason, detail=detail, verdict=trouble.verdict, refused=trouble.refused)


_SIDES: Final = {"submission": "submission (SMTP)", "mailbox": "mailbox (IMAP)"}
_OWN: Final = f"MESSAGE-ID {probes.HEADER}"


async def _arrived(trip: _Trip, talk: imap_talk.Talk) -> list[int]:
    """UIDs of our message. A search alone would also find the notice that it is undeliverable: its subject quotes ours."""
    message_id = trip.probe.message_id(trip.config.sender)
    uids = await talk.search(
        b"OR HEADER MESSAGE-ID",
        imap_talk.quoted(message_id),
        b"SUBJECT",
        imap_talk.quoted(trip.probe.token),
        until=trip.until,
    )
    headers = await talk.header(uids[-_MOST:], _OWN, trip.until)
    return [uid for uid, (_, raw) in headers.items() if _is_ours(raw, trip, message_id)]


def _is_ours(raw: bytes, trip: _Trip, message_id: str) -> bool:
    probe = probes.read(raw)
    return (probe is not None and probe.token == trip.probe.token) or message_id.encode() in raw


_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # never a locale's


async def _came_back(trip: _Trip, talk: imap_talk.Talk) -> bool:
    """Whether a delivery status report (RFC 3464 §2.3.3) in the mailbox says that our message failed. Unreadable: no."""
    since = datetime.fromtimestamp(trip.probe.sent - 86_400, UTC)
    try:
        uids = await talk.search(
            f"SINCE {since.day}-{_MONTHS[since.month - 1]}-{since.year}".encode(),
            b"TEXT", imap_talk.quoted(trip.probe.token), b'TEXT "Action: failed"', until=trip.until,
        )  # fmt: skip
        headers = await talk.header(uids[-_MOST:], "CONTENT-TYPE", trip.until)
    except Trouble:
        return False
    return any(b"multipart/report" in raw.lower() for _, raw in headers.values())


async def _clean_up(trip: _Trip, talk: imap_talk.Talk, found: list[int]) -> None:
    """Deletes our message and earlier ones that nobody waits for, and notes late arrivals. Never fails the look."""
    now, route = trip.circumstances.now, trip.probe.route
    try:
        uids = await talk.search(b"SUBJECT", imap_talk.quoted(probes.MARK), until=trip.until)
        headers = await talk.header(uids[:_MOST], _OWN, trip.until)
        ours = {uid: (date, probe) for uid, (date, raw) in headers.items() if (probe := probes.read(raw)) is not None}
        late = {uid: pair for uid, pair in ours.items() if uid not in found and pair[1].is_late(now, route)}
        if late:
            trip.detail["late_probes"] = len(late)
            delays = [at - probe.sent for date, probe in late.values() if (at := probes.internal_date(date)) is not None]
            if delays:
                trip.detail["late_by_seconds"] = round(max(delays))
        going = [uid for uid, (_, probe) in ours.items() if probe.may_go(now, route) or probe.token == trip.probe.token]
        if remaining(trip.until) > 0:
            await talk.delete(going, trip.until)
            trip.detail["removed"] = len(going)
    except Trouble as trouble:
        trip.detail["cleaning"] = trouble.code
