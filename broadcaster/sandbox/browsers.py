"""Simulated browsers: each has real keys, really decrypts, and does what the product's service worker does.

On a push it parses the declarative message (https://webkit.org/blog/16535/meet-declarative-web-push/), shows
it, and posts `{"event": "shown"}` to `notification.data.receipt`. A notification with the `tag` of one that
is on the screen replaces it (https://notifications.spec.whatwg.org/#tag), and is then no second message to
the person.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from broadcaster.sandbox import ece
from broadcaster.sandbox.faults import Faults
from broadcaster.sandbox.ledger import Entry, Ledger
from broadcaster.sandbox.outbox import Outbox
from broadcaster.sandbox.vapid import b64decode, b64encode

_RECEIPT = b'{"event":"shown"}'
_RECEIPT_HEADERS = {"Content-Type": "application/json", "User-Agent": "SandboxBrowser/1"}


class Browser:
    """One browser with one subscription."""

    __slots__ = ("auth", "label", "on_screen", "online", "private_key", "public_key", "receipts")

    def __init__(self, label: str, receipts: bool, private_key: ec.EllipticCurvePrivateKey, auth: bytes) -> None:
        self.label = label
        self.receipts = receipts
        self.private_key = private_key
        self.public_key = private_key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        self.auth = auth
        self.online = True
        self.on_screen: set[str] = set()

    @classmethod
    def new(cls, label: str, receipts: bool) -> Browser:
        """A browser with fresh keys from the operating system's randomness."""
        return cls(label, receipts, ec.generate_private_key(ec.SECP256R1()), os.urandom(16))

    def keys(self) -> dict[str, str]:
        """`keys` of the subscription, base64url."""
        return {"p256dh": b64encode(self.public_key), "auth": b64encode(self.auth)}

    def open(self, body: bytes) -> dict[str, Any] | None:
        """The notification in an encrypted push; None when it cannot be decrypted or is no declarative
        message."""
        try:
            message = json.loads(ece.decrypt(body, self.private_key, self.public_key, self.auth))
        except (ece.BadEncryption, ValueError):
            return None
        if not isinstance(message, dict) or message.get("web_push") != 8030:
            return None
        notification = message.get("notification")
        return notification if isinstance(notification, dict) else None


def key_of(notification: dict[str, Any]) -> str:
    """What makes two pushes the same message: the delivery, else the tag."""
    data = notification.get("data")
    delivery = data.get("delivery") if isinstance(data, dict) else None
    return str(delivery or notification.get("tag") or notification.get("title") or "")


def text_of(notification: dict[str, Any]) -> str:
    """Title and body, a line each."""
    return "\n".join(str(notification[name]) for name in ("title", "body") if notification.get(name))


class Screens:
    """Shows notifications and sends receipts."""

    def __init__(self, ledger: Ledger, faults: Faults, outbox: Outbox) -> None:
        self._ledger = ledger
        self._faults = faults
        self._outbox = outbox

    def show(self, browser: Browser, entry: Entry, notification: dict[str, Any]) -> None:
        """Puts a notification on a browser's screen and queues its receipt."""
        tag = str(notification.get("tag") or "")
        if tag and tag in browser.on_screen:
            self._ledger.replaced(entry)
        else:
            browser.on_screen.add(tag)
            self._ledger.delivered(entry, "shown", reaches=True)
        data = notification.get("data")
        receipt = data.get("receipt") if isinstance(data, dict) else None
        if browser.receipts and isinstance(receipt, str):
            self._send_receipt(receipt, entry.tile.address)

    def _send_receipt(self, url: str, address: str) -> None:
        odd = self._faults.callbacks("push", address)
        if "callback_lost" in odd:
            return

        async def job() -> None:
            await self._outbox.post(url, _RECEIPT, _RECEIPT_HEADERS)

        for _ in range(2 if "callback_twice" in odd else 1):
            self._outbox.put(job, odd.get("callback_late", 0.0))


class Shelf:
    """Keeps simulated browsers in a file, so that a restarted sandbox knows the subscriptions it gave out."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def save(self, rows: list[tuple[str, bytes | None, Browser]]) -> None:
        """Appends (token, application server key, browser), one JSON object a line, readable by the owner
        only."""
        if self._path is None:
            return
        lines = [json.dumps(_row(*row)) + "\n" for row in rows]
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as file:
            file.writelines(lines)

    def load(self) -> list[tuple[str, bytes | None, Browser]]:
        """What `save` kept."""
        if self._path is None or not self._path.exists():
            return []
        return [_unrow(json.loads(line)) for line in self._path.read_text().splitlines() if line]


def _row(token: str, key: bytes | None, browser: Browser) -> dict[str, Any]:
    number = browser.private_key.private_numbers().private_value
    return {
        "token": token,
        "key": None if key is None else b64encode(key),
        "private": b64encode(number.to_bytes(32, "big")),
        "auth": b64encode(browser.auth),
        "label": browser.label,
        "receipts": browser.receipts,
    }


def _unrow(row: dict[str, Any]) -> tuple[str, bytes | None, Browser]:
    private = ec.derive_private_key(int.from_bytes(b64decode(row["private"]), "big"), ec.SECP256R1())
    key = None if row["key"] is None else b64decode(row["key"])
    return row["token"], key, Browser(row["label"], row["receipts"], private, b64decode(row["auth"]))
