"""Opens an encrypted push as a browser does: RFC 8291 on RFC 8188's `aes128gcm`, on `cryptography` alone.

Written independently of the sending side, so that both cannot share a mistake.
"""

from __future__ import annotations

import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HEADER_SIZE = 86
"""salt 16 + record size 4 + key id length 1 + key id 65 (RFC 8188 §2.1, RFC 8291 §4)."""
TAG_SIZE = 16


class BadEncryption(Exception):
    """The body is not what RFC 8291 describes, or is not for this key."""


def check_header(body: bytes) -> None:
    """Checks what can be seen without a key (RFC 8188 §2.1, RFC 8291 §4); `BadEncryption`."""
    if len(body) < HEADER_SIZE + TAG_SIZE + 1:
        raise BadEncryption("too short for a header and one record")
    if body[20] != 65 or body[21] != 4:
        raise BadEncryption("the key id must be an uncompressed P-256 point of 65 octets")
    record_size = int.from_bytes(body[16:20], "big")
    if record_size < 18:
        raise BadEncryption("the record size must be 18 at least")
    if len(body) - HEADER_SIZE > record_size:
        raise BadEncryption("a push message is one record only")


def decrypt(body: bytes, private_key: ec.EllipticCurvePrivateKey, public_key: bytes, auth: bytes) -> bytes:
    """The plaintext. `public_key` is the receiver's own, 65 octets; `auth` its secret, 16 octets."""
    check_header(body)
    salt, sender = body[:16], body[21:HEADER_SIZE]
    try:
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender)
    except ValueError:
        raise BadEncryption("the key id is no point of P-256") from None
    shared = private_key.exchange(ec.ECDH(), point)
    # RFC 8291 §3.4: combine with the auth secret, bound to both public keys
    ikm = _hkdf(auth, shared, b"WebPush: info\x00" + public_key + sender, 32)
    # RFC 8188 §2.2 and §2.3: content encryption key and nonce; the one record has number 0
    key = _hkdf(salt, ikm, b"Content-Encoding: aes128gcm\x00", 16)
    nonce = _hkdf(salt, ikm, b"Content-Encoding: nonce\x00", 12)
    try:
        padded = AESGCM(key).decrypt(nonce, body[HEADER_SIZE:], None)
    except InvalidTag:
        raise BadEncryption("the tag does not match: not for this key") from None
    text = padded.rstrip(b"\x00")
    if not text.endswith(b"\x02"):
        # RFC 8188 §2: the last record ends its data with octet 2, then zeros
        raise BadEncryption("no delimiter of a last record")
    return text[:-1]


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA-256 (RFC 5869) for up to 32 octets, where the expansion is one step."""
    prk = hmac.digest(salt, secret, "sha256")
    return hmac.digest(prk, info + b"\x01", "sha256")[:length]
