"""What the sandbox's mail system keeps: accounts, mailboxes, and messages that a fault holds back. In memory, bounded.

| fault (`POST /_sandbox/faults`, provider `mail`) | what happens |
|---|---|
| lost | a message is taken in and thrown away: its sender is told 250 |
| stuck | a message is taken in and kept back; it is delivered when no `stuck` is in force any more |
| auth | the right password is refused as if it were wrong (`operation`: send = SMTP, lookup = IMAP, any) |
| down | ports are closed and conversations cut (`operation` as above) |
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime

from broadcaster.sandbox import credentials
from broadcaster.sandbox.faults import Faults

MOST_MESSAGES = 2_000
"""Messages in one mailbox, and held back in all."""
MOST_OCTETS = 64 * 1024 * 1024
"""Of one mailbox, and held back in all."""
_HEADER_END = re.compile(rb"\r\n\r\n")


class Full(Exception):
    """There is no room for another message."""


@dataclass(slots=True, eq=False)
class Message:
    """One message in one mailbox. `at`: seconds since the epoch. `flags` as IMAP writes them."""

    uid: int
    raw: bytes
    at: float
    flags: set[str] = field(default_factory=set)
    gone: bool = False

    @property
    def header(self) -> bytes:
        """The header with the empty line that ends it."""
        end = _HEADER_END.search(self.raw)
        return self.raw if end is None else self.raw[: end.end()]

    def fields(self) -> list[tuple[str, bytes]]:
        """(name in lower case, its lines as they stand), in order."""
        found: list[tuple[str, bytes]] = []
        for line in self.header.splitlines(keepends=True):
            if line[:1] in (b" ", b"\t") and found:
                found[-1] = (found[-1][0], found[-1][1] + line)
            elif b":" in line:
                found.append((line.partition(b":")[0].strip().decode("latin-1").lower(), line))
        return found

    def values(self, name: str) -> list[str]:
        """What the fields of this name say, unfolded (RFC 5322 §2.2.3)."""
        wanted = name.lower()
        lines = [raw.partition(b":")[2] for known, raw in self.fields() if known == wanted]
        return [line.replace(b"\r\n", b"").strip().decode("utf-8", "replace") for line in lines]


class Mailbox:
    """One account's INBOX. UIDs only ever grow (RFC 3501 §2.3.1.1)."""

    def __init__(self, validity: int) -> None:
        self.validity = validity
        self.next_uid = 1
        self.messages: list[Message] = []

    def has_room(self, octets: int) -> bool:
        """For one message of this size."""
        return len(self.messages) < MOST_MESSAGES and sum(len(m.raw) for m in self.messages) + octets <= MOST_OCTETS

    def add(self, raw: bytes, at: float) -> None:
        """Puts one more in."""
        self.messages.append(Message(self.next_uid, raw, at))
        self.next_uid += 1

    def remove(self, going: list[Message]) -> None:
        """For good."""
        for message in going:
            message.gone = True
        self.messages = [m for m in self.messages if not m.gone]


class Post:
    """Takes messages in and puts them into mailboxes, or does what the faults in force say."""

    def __init__(self, faults: Faults, clock: Callable[[], float] = time.time) -> None:
        self._faults = faults
        self._clock = clock
        self._started = int(clock())
        self.clear()

    def clear(self) -> None:
        """Every mailbox is empty, and another one to IMAP clients; nothing is held back."""
        self._started += 1
        self.boxes = {user: Mailbox(self._started) for user in credentials.MAIL_PASSWORDS}
        self._held: list[tuple[str, bytes]] = []
        self.counts = {"taken": 0, "delivered": 0, "lost": 0}

    @property
    def held(self) -> int:
        """Messages that are kept back."""
        return len(self._held)

    def admits(self, user: str, password: str, operation: str) -> bool:
        """Whether this password opens this account. `operation`: send (SMTP) or lookup (IMAP)."""
        known = credentials.MAIL_PASSWORDS.get(user)
        right = known is not None and hmac.compare_digest(known.encode(), password.encode())
        return right and not self._faults.mail("auth", operation, user)

    def knows(self, address: str) -> str | None:
        """The account that an address belongs to; the domain's case is of no account, the name's is (RFC 5321 §2.4)."""
        name, _, domain = address.rpartition("@")
        return name if domain.lower() == credentials.MAIL_DOMAIN and name in self.boxes else None

    def take(self, sender: str, recipients: list[str], raw: bytes, received: str) -> None:
        """Takes one message in for all its recipients, or for none. Raises Full.

        `received`: what the trace line says of where it came from (RFC 5321 §4.4).
        """
        date = format_datetime(datetime.fromtimestamp(self._clock(), UTC))
        whole = f"Return-Path: <{sender}>\r\nReceived: {received}; {date}\r\n".encode() + raw
        users = {address: user for address in recipients if (user := self.knows(address)) is not None}
        held = sum(len(raw) for _, raw in self._held)
        if len(self._held) + len(users) > MOST_MESSAGES or held + len(users) * len(whole) > MOST_OCTETS:
            raise Full
        if not all(self.boxes[user].has_room(len(whole)) for user in users.values()):
            raise Full
        self.counts["taken"] += 1
        for address, user in users.items():
            if self._faults.mail("lost", "send", address):
                self.counts["lost"] += 1
            elif self._faults.mail("stuck", "send", address):
                self._held.append((user, whole))
            else:
                self._deliver(user, whole)

    def release(self) -> None:
        """What was kept back arrives, unless a fault keeps it back still; what finds no room waits on."""
        if self._faults.has_mail("stuck"):
            return
        waiting, self._held = self._held, []
        for user, whole in waiting:
            if self.boxes[user].has_room(len(whole)):
                self._deliver(user, whole)
            else:
                self._held.append((user, whole))

    def _deliver(self, user: str, whole: bytes) -> None:
        self.boxes[user].add(whole, self._clock())
        self.counts["delivered"] += 1
