"""The limit of the machine: encrypt and post, or have the SDK post, and write nothing down.

``python -m tests.bench.blast push|sms ORIGIN FOLDER FIRST COUNT`` is one of the processes. Written as well as we can: RFC
8291 straight on ``cryptography``, one signature for all, a chunk encrypted and then posted with 64 in flight, uvloop; the
Twilio SDK with a transport of its own that keeps its constant headers.
"""

import asyncio
import base64
import gc
import hashlib
import hmac
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02
from twilio.http import AsyncHttpClient  # type: ignore[import-untyped]
from twilio.http.response import Response  # type: ignore[import-untyped]
from twilio.rest import Client  # type: ignore[import-untyped]
from yarl import URL

from tests.bench.people import Pool, phone
from tests.bench.running import ready_then_go
from tests.bench.words import PAYLOAD, TEXT

IN_FLIGHT: Final = 64
CHUNK: Final = 200
WARM_UP: Final = 400
API: Final = "https://api.twilio.com"
_CURVE: Final = ec.SECP256R1()

Post = Callable[[Any], Awaitable[int]]


def encrypt(p256dh: bytes, auth: bytes, plaintext: bytes) -> bytes:
    """RFC 8291 §3.4 and RFC 8188, one record; a fresh key and salt for each message."""
    key = ec.generate_private_key(_CURVE)
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    secret = key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, p256dh))
    material = _hmac(_hmac(auth, secret), b"WebPush: info\0" + p256dh + public + b"\1")
    salt = os.urandom(16)
    pseudo = _hmac(salt, material)
    content_key = _hmac(pseudo, b"Content-Encoding: aes128gcm\0\1")[:16]
    nonce = _hmac(pseudo, b"Content-Encoding: nonce\0\1")[:12]
    return salt + b"\0\0\x10\0\x41" + public + AESGCM(content_key).encrypt(nonce, plaintext + b"\2", None)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


async def push(origin: str, pool: Pool, numbers: Sequence[int], go: Callable[[], None]) -> float:
    """Seconds for all of them."""
    vapid = Vapid02()
    vapid.generate_keys()
    claims = {"aud": origin, "exp": int(time.time()) + 3600, "sub": "mailto:bench@alert-broadcaster.invalid"}
    constant = {
        "Authorization": vapid.sign(claims)["Authorization"], "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream", "TTL": "14400", "Urgency": "high",
    }  # fmt: skip
    addresses = [pool.subscription(origin, n)[0] for n in numbers]
    async with aiohttp.ClientSession(connector=_connector(), cookie_jar=aiohttp.DummyCookieJar()) as session:

        def address(stored: str) -> tuple[URL, tuple[bytes, bytes], dict[str, str]]:
            read = json.loads(stored)
            url = read["endpoint"]
            topic = base64.urlsafe_b64encode(hashlib.sha256(url.encode()).digest()[:24]).decode()
            keys = _bytes(read["keys"]["p256dh"]), _bytes(read["keys"]["auth"])
            return URL(url, encoded=True), keys, {**constant, "Topic": topic}

        def prepare(chunk: Sequence[str]) -> Sequence[tuple[URL, bytes, dict[str, str]]]:
            ready = [address(stored) for stored in chunk]  # encryption by itself: processor caches
            return [(url, encrypt(*keys, PAYLOAD), headers) for url, keys, headers in ready]

        async def post(request: tuple[URL, bytes, dict[str, str]]) -> int:
            url, body, headers = request
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status

        await _all(prepare(addresses[:WARM_UP]), post)
        began = _begin(go)
        for start in range(0, len(addresses), CHUNK):
            await _all(prepare(addresses[start : start + CHUNK]), post)
        return time.monotonic() - began


async def sms(origin: str, numbers: Sequence[int], go: Callable[[], None]) -> float:
    """Seconds for all of them."""
    async with aiohttp.ClientSession(connector=_connector(), cookie_jar=aiohttp.DummyCookieJar()) as session:
        account = "AC" + "5a" * 16
        client = _Client(
            account, "secret", http_client=_Lean(session, f"{origin}/twilio", account, "secret"), environment={"": ""}
        )

        async def create(n: int) -> int:
            made = await client.messages.create_async(
                to=phone(n), body=TEXT, messaging_service_sid="MG" + "5a" * 16, validity_period=14_400,
                status_callback=f"https://alerts.example.nhs.uk/api/v1/receipts/sms?d={n}",
            )  # fmt: skip
            return 201 if made.sid else 0

        await _all(numbers[:WARM_UP], create)
        began = _begin(go)
        await _all(numbers, create)
        return time.monotonic() - began


async def _all(requests: Sequence[Any], post: Post) -> None:
    """Posts them, 64 at once. Raises RuntimeError for any answer but 201."""
    waiting = iter(requests)

    async def work() -> None:
        for request in waiting:
            if (status := await post(request)) != 201:
                raise RuntimeError(f"the sink answered {status}")

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


class _Lean(AsyncHttpClient):  # type: ignore[misc]
    """The SDK's seam for transport: one session, one Authorization header."""

    def __init__(self, session: aiohttp.ClientSession, base: str, user: str, password: str) -> None:
        super().__init__(logging.getLogger("twilio"), True, 10)
        self._session, self._base = session, base
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    async def request(
        self, method: str, uri: str, params: Any = None, data: Any = None, headers: Any = None, auth: Any = None,
        timeout: Any = None, allow_redirects: bool = False,
    ) -> Any:  # fmt: skip
        body = urlencode(data, doseq=True).encode()
        url = URL(self._base + uri.removeprefix(API), encoded=True)
        headers = {**headers, "Authorization": self._authorization}
        async with self._session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
            return Response(answer.status, await answer.text(encoding="utf-8"), answer.headers)


class _Client(Client):  # type: ignore[misc]
    """The SDK asks the operating system for its name for each request; once is enough."""

    _constant: dict[str, str] | None = None

    def get_headers(self, method: str, headers: dict[str, str] | None) -> dict[str, str]:
        if self._constant is None:
            self._constant = super().get_headers("GET", None)
        return {**self._constant, **(headers or {})}


def _connector() -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(limit=IN_FLIGHT, keepalive_timeout=60)


def _begin(go: Callable[[], None]) -> float:
    gc.collect()
    gc.freeze()  # what was prepared is not looked through again
    go()
    return time.monotonic()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def main() -> None:
    kind, origin, folder, first, count = sys.argv[1:]
    numbers = range(int(first), int(first) + int(count))
    pool = Pool.load(Path(folder) / "pool.json")
    work = push(origin, pool, numbers, ready_then_go) if kind == "push" else sms(origin, numbers, ready_then_go)
    seconds = uvloop.run(work)
    print(json.dumps({"n": len(numbers), "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
