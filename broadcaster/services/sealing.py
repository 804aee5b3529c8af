"""Secrets that must be kept and used again (a mailbox's password), sealed with the broadcaster's own key.

A copy of the database alone does not give them away.
"""

import base64
from typing import Final

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PURPOSE: Final = b"broadcaster sealed secrets 1"


class SealBroken(Exception):
    """It was sealed with another key (BROADCASTER_SECRET_KEY has changed), or is damaged."""


class Sealer:
    """``secret``: the broadcaster's own, of any length."""

    def __init__(self, secret: bytes) -> None:
        key = HKDF(hashes.SHA256(), 32, salt=None, info=_PURPOSE).derive(secret)
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def seal(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Raises SealBroken."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise SealBroken("a kept secret cannot be read: was BROADCASTER_SECRET_KEY changed?") from None
