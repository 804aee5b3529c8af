"""Messages of our own that travel from submission to mailbox: how they are made, recognised and told apart.

Each carries ``X-Broadcaster-Probe``, and nothing without it is ever deleted. The header says for how long somebody may
still be waiting for the message: several vantages share a mailbox, and none may remove what another one is looking for.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

HEADER: Final = "X-Broadcaster-Probe"
#: Begins every subject, so that earlier ones can be searched for.
MARK: Final = "Mail check"
#: Seconds after which another route's probe is nobody's any more (its monitor was changed or removed).
ABANDONED: Final = 86_400.0

#: Any white space: a long header may be folded on its way (RFC 5322 §2.2.3).
_FORM: Final = re.compile(
    rb"\bX-Broadcaster-Probe:\s*1\s+([0-9a-f]{16})\s+(\d{9,12})\s+(\d{9,12})\s+([0-9a-f]{32})\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Probe:
    """``route``: a digest of where it goes, 16 hex digits. ``sent``, ``until``: whole seconds since the epoch, when it was
    sent and until when it is waited for. ``token``: 32 random hex digits."""

    route: str
    sent: int
    until: int
    token: str

    def message_id(self, sender: str) -> str:
        return f"<{self.token}.probe@{sender.rpartition('@')[2]}>"

    def is_late(self, now: float, route: str) -> bool:
        """It arrived after its own look had given up: delayed, not lost."""
        return self.route == route and now > self.until

    def may_go(self, now: float, route: str) -> bool:
        """Nobody waits for it any more."""
        return self.is_late(now, route) or now > self.until + ABANDONED


def route(*parts: object) -> str:
    """The digest of a route."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def message(probe: Probe, sender: str, recipient: str) -> bytes:
    """The message (RFC 5322). Nobody's out-of-office assistant answers it: RFC 3834 §5, and Exchange's own header."""
    made = EmailMessage(policy=SMTP)
    made["From"] = sender
    made["To"] = recipient
    made["Date"] = format_datetime(datetime.fromtimestamp(probe.sent, UTC))
    made["Message-ID"] = probe.message_id(sender)
    made["Subject"] = f"{MARK} {probe.token}"
    made["Auto-Submitted"] = "auto-generated"
    made["X-Auto-Response-Suppress"] = "All"
    made[HEADER] = f"1 {probe.route} {probe.sent} {probe.until} {probe.token}"
    made.set_content(
        "This message checks that mail arrives. The alert broadcaster's monitor sends and deletes it; please ignore it.\n"
    )
    return made.as_bytes()


def read(raw: bytes) -> Probe | None:
    """The probe whose header is in these header lines; None where there is none of ours."""
    found = _FORM.search(raw)
    if found is None:
        return None
    return Probe(found[1].decode().lower(), int(found[2]), int(found[3]), found[4].decode().lower())


def internal_date(raw: bytes) -> float | None:
    """IMAP's INTERNALDATE ("25-Nov-2025 09:10:00 +0000") as seconds since the epoch."""
    try:
        return datetime.strptime(raw.decode("ascii").strip(), "%d-%b-%Y %H:%M:%S %z").timestamp()
    except (ValueError, OverflowError):
        return None
