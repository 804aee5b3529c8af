"""Checks who sent a push: RFC 8292 (VAPID), the `vapid` scheme of its §3. Signatures are really verified."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Collection
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

MAX_LIFE = 24 * 3600
"""RFC 8292 §2: `exp` at most 24 hours from the request."""
_CACHED = 10_000


class BadVapid(Exception):
    """Not accepted. `status` 401: none was given; 403: it is not valid (RFC 8292 §4.2)."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def b64decode(text: str) -> bytes:
    """base64url without padding (RFC 7515 §2); ValueError for anything else."""
    if "=" in text:
        raise ValueError("padding")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def b64encode(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Verifier:
    """Remembers which header values it has verified, so that a token signed once costs one verification."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: dict[str, tuple[str, float, bytes]] = {}

    def check(self, header: str | None, audiences: Callable[[str], bool], bound_key: bytes | None) -> None:
        """Checks an Authorization header; `audiences(aud)` says whether the audience is ours.

        `bound_key` is the subscription's applicationServerKey (65 octets), None when it has none.
        """
        if not header:
            raise BadVapid(401, "VAPID is required")
        known = self._known.get(header)
        if known is None:
            known = _verify(header)
            if len(self._known) >= _CACHED:
                self._known.clear()
            self._known[header] = known
        audience, expires, key = known
        now = self._clock()
        if not audiences(audience):
            raise BadVapid(403, "aud is not the origin of the push resource")
        if expires <= now:
            raise BadVapid(403, "exp has passed")
        if expires > now + MAX_LIFE:
            raise BadVapid(403, "exp is more than 24 hours ahead")
        if bound_key is not None and key != bound_key:
            raise BadVapid(403, "k is not the subscription's applicationServerKey")


def _verify(header: str) -> tuple[str, float, bytes]:
    """(aud, exp, key) of a header whose form and signature are right."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "vapid":
        raise BadVapid(401, "the scheme must be vapid")
    parameters = _parameters(rest, ("t", "k"))
    try:
        key = b64decode(parameters["k"])
        head, claims, signature = parameters["t"].split(".")
        header_json, claims_json = json.loads(b64decode(head)), json.loads(b64decode(claims))
        raw = b64decode(signature)
        if len(key) != 65 or key[0] != 4:
            raise BadVapid(403, "k must be an uncompressed P-256 point")
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    except ValueError as error:
        raise BadVapid(403, f"malformed: {error}") from None
    if not isinstance(header_json, dict) or header_json.get("alg") != "ES256" or len(raw) != 64:
        raise BadVapid(403, "the token must be signed with ES256")
    der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    try:
        public.verify(der, f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise BadVapid(403, "the signature does not match") from None
    return (*_claims(claims_json), key)


def _parameters(rest: str, names: Collection[str]) -> dict[str, str]:
    pairs = [part.strip().partition("=") for part in rest.split(",")]
    found = {name: value.strip('"') for name, _, value in pairs}
    for name in names:
        if not found.get(name):
            raise BadVapid(403, f"parameter {name} is missing")
    return found


def _claims(claims: Any) -> tuple[str, float]:
    if not isinstance(claims, dict):
        raise BadVapid(403, "the claims must be an object")
    audience, expires, subject = claims.get("aud"), claims.get("exp"), claims.get("sub")
    if not isinstance(audience, str):
        raise BadVapid(403, "aud must be a string")
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise BadVapid(403, "exp must be a number")
    # RFC 8292 §2.1 says SHOULD; Apple and Mozilla insist, so the sandbox does
    if not isinstance(subject, str) or not subject.startswith(("mailto:", "https:")):
        raise BadVapid(403, "sub must be a mailto: or https: URI")
    return audience, float(expires)
