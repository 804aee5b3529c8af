"""Web push: RFC 8030 (protocol), RFC 8291 (encryption, by pywebpush), RFC 8292 (VAPID, by py_vapid).

What lives here: subscriptions, the notification, sending, the service worker's receipts, keys. What does not: which
hosts may be posted to (``endpoints``), transport faults (``wire``).
"""

import asyncio
import base64
import binascii
import hashlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import aiohttp
import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02, VapidException
from pywebpush import WebPusher, WebPushException
from yarl import URL

from broadcaster.channels import wire
from broadcaster.channels.dispatch import dispatch
from broadcaster.channels.endpoints import Allowed, GuardedResolver, endpoint
from broadcaster.domain import tokens
from broadcaster.domain.channel import AttemptId, Callback, CallbackRefused, Lane, Receipt, Traits
from broadcaster.domain.messages import Address, Content, Cost, Envelope, InvalidAddress, Message, Severity
from broadcaster.domain.outcomes import Accepted, Ambiguous, Outcome, Rejected, Scope, Throttled

log = structlog.get_logger()

#: RFC 8291 §4 allows 3993 bytes of plaintext; some services take less once their own framing is added.
AIM: Final = 2_700
LONGEST: Final = 3_993
#: RFC 8292 §2 allows 24 hours.
TOKEN_SECONDS: Final = 12 * 3600
RENEW_SECONDS: Final = 6 * 3600
#: Characters of JSON: an endpoint and two keys.
LONGEST_SUBSCRIPTION: Final = 4096
LONGEST_TTL: Final = 28 * 86_400
_FREE: Final = Cost()
URGENCY: Final = {Severity.CRITICAL: "high", Severity.HIGH: "high", Severity.NORMAL: "normal", Severity.LOW: "low"}

#: Answers by status (RFC 8030 §5 and §7.3, RFC 8292 §4.2). Only 404 and 410 say that a subscription is gone.
PUSH_STATUSES: Final[dict[int, Rejected]] = {
    400: Rejected(Scope.MESSAGE, "400", "The push service does not accept the request"),
    401: Rejected(Scope.CHANNEL, "401", "The push service refuses our VAPID key"),
    403: Rejected(Scope.CHANNEL, "403", "The push service refuses our VAPID key"),
    404: Rejected(Scope.ADDRESS, "404", "The subscription is gone"),
    410: Rejected(Scope.ADDRESS, "410", "The subscription is gone"),
    413: Rejected(Scope.MESSAGE, "413", "The message is too large"),
}
BAD_KEYS: Final = Rejected(Scope.ADDRESS, "bad_keys", "The stored subscription's keys are malformed")
#: A 400, 401 or 403 with one of these concerns one subscription, made under another key: not the channel, and no proof
#: that the subscription is gone. FCM, Mozilla, Apple, in this order (web-push-libs/web-push#941, web-push-php#429).
KEY_MISMATCH: Final = ("do not correspond to the credentials", "public key mismatch", "vapidpkhashmismatch")


@dataclass(frozen=True, slots=True)
class WebPushConfig:
    """One VAPID key."""

    private_key: str  # from generate_vapid(), or PEM
    subject: str  # mailto: or https:, not localhost (Apple refuses that)
    token_secret: bytes  # signs our own receipt tokens (domain.tokens, purpose "receipt")
    allowed: Allowed = field(default_factory=Allowed)
    simulate_origin: str = ""  # every endpoint becomes one of the sandbox's: a test never reaches a push service
    rate_per_host: float | None = None


class WebPush:
    """Channel and SendsReceipts. A repeat has the same Topic and tag, so it replaces the first."""

    def __init__(self, config: WebPushConfig, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._clock = clock
        self._vapid = _load(config.private_key)
        self._public = _public(self._vapid)
        self._authorizations: dict[str, tuple[str, float]] = {}
        self._words = lru_cache(maxsize=256)(_words)
        self._session: aiohttp.ClientSession | None = None

    @property
    def traits(self) -> Traits:
        return Traits(
            name="push",
            label="Web push",
            chunk=500,
            rate=None,
            duplicates_collapse=True,
            gives_receipts=True,
        )

    @property
    def route(self) -> str:
        kind = "simulated" if self._config.simulate_origin else "vapid"
        return f"push:{kind}:{self._public[:12]}"

    async def open(self) -> None:
        origins = (*self._config.allowed.origins, *filter(None, [self._config.simulate_origin]))
        exempt = Allowed(origins=origins).private_hosts()
        self._session = wire.session(resolver=GuardedResolver(exempt), follows=False)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def check(self) -> str | None:
        """There is no account to ask: signs once, which fails on a bad key or subject."""
        host = self._config.subject.removeprefix("https://").rpartition("@")[2].partition("/")[0]
        if "localhost" in host and not (self._config.allowed.origins or self._config.simulate_origin):
            return "The VAPID subject must not be localhost: Apple refuses it."
        try:
            self._sign("https://push.example.org", self._clock())
        except VapidException:
            return "The VAPID subject must be mailto: or https:."
        return None

    # Subscriptions

    def parse_address(self, raw: str) -> Address:
        """PushSubscription.toJSON(). Keys as RFC 8291 §2 wants them: a point on P-256, and 16 bytes."""
        if len(raw) > LONGEST_SUBSCRIPTION:
            raise InvalidAddress("The subscription is too long")
        try:
            given = json.loads(raw)
            url, p256dh, auth = given["endpoint"], _bytes(given["keys"]["p256dh"]), _bytes(given["keys"]["auth"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InvalidAddress("The subscription cannot be read") from None
        if not isinstance(url, str):
            raise InvalidAddress("The subscription has no endpoint")
        host = endpoint(url, self._config.allowed).host
        if len(auth) != 16:
            raise InvalidAddress("The subscription's auth is not 16 bytes")
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), p256dh)
        except ValueError:
            raise InvalidAddress("The subscription's p256dh is no key") from None
        if len(p256dh) != 65:
            raise InvalidAddress("The subscription's p256dh is not 65 bytes")
        value = _compact({"endpoint": url, "keys": {"p256dh": _b64(p256dh), "auth": _b64(auth)}})
        return Address(value, url, f"{host} #{hashlib.sha256(url.encode()).hexdigest()[:8]}")

    # Text

    def render(self, message: Message, to: Envelope) -> Content:
        """The declarative shape (https://webkit.org/blog/16535/): Safari shows it, other browsers' workers read it."""
        urls = len(to.link.encode()) + len(to.receipt_url.encode()) + len(to.reference)
        text, template = self._words(message, urls)
        own = {_LINK: to.link, _RECEIPT: to.receipt_url, _REFERENCE: to.reference}
        return Content(text, "".join(_compact(own[part])[1:-1] if part in own else part for part in template).encode())

    def quote(self, content: Content) -> Cost:  # noqa: ARG002
        return _FREE

    def lanes(self, to: Envelope, cost: Cost) -> Sequence[Lane]:
        if self._config.rate_per_host is None:
            return ()
        host = URL(_endpoint_of(to.address), encoded=True).host
        return (Lane(f"{self.route}:{host}", self._config.rate_per_host, cost.units),)

    # Sending

    def send(self, message: Message, chunk: Sequence[tuple[Envelope, Content]]) -> AsyncIterator[tuple[AttemptId, Outcome]]:
        """Encrypts the chunk, then posts it: 1.2 times the speed of encrypting each in turn (FACTS).

        All is made ready before anything is encrypted: the tables of the curve and the interpreter drive each other out of
        the processor's caches, which made a request's preparation an eighth dearer.
        """
        ready = [(to, self._prepare(message, to, content)) for to, content in chunk]
        return dispatch([(to, _sealed(request)) for to, request in ready], self._post, limiter=_host)

    def _prepare(self, message: Message, to: Envelope, content: Content) -> "_Prepared":
        """A fault here concerns one envelope only, so it is carried to where outcomes are made."""
        try:
            return self._request(message, to, content)
        except Exception as error:  # noqa: BLE001
            return error

    def _request(self, message: Message, to: Envelope, content: Content) -> "_Request | Rejected":
        """The request, but for its encryption."""
        payload = content.payload
        if not isinstance(payload, bytes):
            raise TypeError("content was not rendered by this channel")
        if len(payload) > LONGEST:
            return PUSH_STATUSES[413]
        now = self._clock()
        try:
            subscription = json.loads(to.address)
            target = self._target(subscription["endpoint"])
            recipient = _Recipient(subscription["keys"])
        except InvalidAddress as refused:
            return Rejected(Scope.ADDRESS, "endpoint_refused", str(refused))
        except (ValueError, LookupError, TypeError):
            return BAD_KEYS
        headers = {
            "Authorization": self._authorization(target, now),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(min(max(int(message.expires_at / 1000 - now), 0), LONGEST_TTL)),
            "Urgency": URGENCY[message.severity],
            "Topic": topic(message.alert, subscription["endpoint"]),
        }
        return _Request(target, headers, recipient, payload)

    def _target(self, raw: str) -> URL:
        if self._config.simulate_origin:
            name = hashlib.sha256(raw.encode()).hexdigest()[:32]
            return URL(f"{self._config.simulate_origin.rstrip('/')}/push/simulated/{name}", encoded=True)
        return endpoint(raw, self._config.allowed)  # again: the allow-list may have changed since it was stored

    async def _post(self, _: Envelope, request: "_Prepared") -> Outcome:
        if isinstance(request, Rejected):
            return request
        if isinstance(request, Exception):
            raise request
        if self._session is None:
            raise RuntimeError("the channel is not open")
        async with self._session.post(
            request.target, data=request.body, headers=request.headers, allow_redirects=False
        ) as response:
            if response.status in (200, 201, 202):
                return Accepted(response.headers.get("Location"))
            wire.refuse_redirect(response)
            return classify(response.status, await _beginning(response), response.headers.get("Retry-After"))

    def _authorization(self, target: URL, now: float) -> str:
        """One token per push service: signing costs 50 µs, and services may cache it as well (RFC 8292 §5)."""
        written = f"{target.scheme}://{target.raw_authority}"
        cached = self._authorizations.get(written)
        if cached is not None and now < cached[1]:
            return cached[0]
        if len(self._authorizations) > 500:
            self._authorizations.clear()
        signed = self._sign(str(target.origin()), now)
        self._authorizations[written] = (signed, now + RENEW_SECONDS)
        return signed

    def _sign(self, audience: str, now: float) -> str:
        claims = {"aud": audience, "exp": int(now) + TOKEN_SECONDS, "sub": self._config.subject}
        return str(self._vapid.sign(claims)["Authorization"])

    # Receipts

    def read_receipt(self, callback: Callback) -> Receipt | None:
        """Our own service worker's post, {"event": "shown"} or {"event": "failed", "reason": …}. The token is proof."""
        attempt = tokens.verify(self._config.token_secret, "receipt", callback.query.get("d", ""))
        if attempt is None or len(attempt) != 2:
            raise CallbackRefused("The token does not hold")
        try:
            event = json.loads(callback.body)["event"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise CallbackRefused("The receipt cannot be read") from None
        match event:
            case "shown":
                return Receipt(attempt[0], attempt[1], "delivered")
            case "failed":  # could not show it now; a later try may
                return None
            case _:
                raise CallbackRefused("The receipt's event is not known")


@dataclass(slots=True)
class _Request:
    """``body`` is the plaintext, until it is sealed for ``recipient``."""

    target: URL
    headers: dict[str, str]
    recipient: "_Recipient"
    body: bytes


_Prepared = _Request | Rejected | Exception


def _sealed(request: _Prepared) -> _Prepared:
    """Encrypted (RFC 8291), with a fresh key for every message."""
    if isinstance(request, _Request):
        try:
            request.body = request.recipient.encode(request.body, "aes128gcm")["body"]
        except (ValueError, LookupError, TypeError, WebPushException):  # what pywebpush raises for malformed keys
            return BAD_KEYS
        except Exception as error:  # noqa: BLE001 # as in ``_prepare``
            return error
    return request


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """The first 4 kB of the body: enough for every push service's error text, and no more of a stranger's."""
    try:
        raw = await response.content.readexactly(4096)
    except asyncio.IncompleteReadError as short:
        raw = short.partial
    return raw.decode(errors="replace")


def classify(status: int, text: str, retry_after: str | None) -> Outcome:
    """An answer of a push service other than success."""
    if status == 429:
        return Throttled(wire.retry_after(retry_after, 10.0), "429")
    if status in (400, 401, 403) and any(phrase in text.lower() for phrase in KEY_MISMATCH):
        return Rejected(Scope.MESSAGE, "key_mismatch", "The subscription was made under another VAPID key")
    if (known := PUSH_STATUSES.get(status)) is not None:
        return known
    if status < 500:
        log.error("push.unknown_status", status=status)
    return Ambiguous(str(status), f"The push service answered {status}")


def topic(alert: str, endpoint_url: str) -> str:
    """The same for every attempt of one alert to one subscription.

    32 characters that decode as base64url (RFC 8030 §5.4; that they decode is Apple's wish).
    """
    return _b64(hashlib.sha256(f"{alert}\n{endpoint_url}".encode()).digest()[:24])


def generate_vapid() -> tuple[str, str]:
    """(private, public), both base64url: 32 bytes, and the 65 of the point that browsers subscribe with."""
    vapid = Vapid02()
    vapid.generate_keys()
    private: ec.EllipticCurvePrivateKey = vapid.private_key
    return _b64(private.private_numbers().private_value.to_bytes(32, "big")), _public(vapid)


def public_key(private: str) -> str:
    """The browser's ``applicationServerKey``, base64url. Raises ValueError for what is no private key."""
    return _public(_load(private))


def _load(private: str) -> Any:
    try:
        if "-----BEGIN" in private:
            return Vapid02.from_pem(private.strip().encode())
        return Vapid02.from_string(private.strip())
    except (ValueError, TypeError, binascii.Error):
        raise ValueError("the VAPID private key cannot be read") from None


def _public(vapid: Any) -> str:
    key: ec.EllipticCurvePublicKey = vapid.public_key
    return _b64(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


class _Recipient(WebPusher):  # type: ignore[misc]
    """A subscription's keys, read and checked once; raises ValueError and the like. WebPusher would copy the subscription
    and check it in its own way, which lets keys of the wrong length through (FACTS)."""

    def __init__(self, keys: Any) -> None:
        self.verbose = False
        self.receiver_key, self.auth_key = _bytes(keys["p256dh"]), _bytes(keys["auth"])
        if len(self.auth_key) != 16 or len(self.receiver_key) != 65:
            raise ValueError("keys of the wrong length")


def _payload(message: Message, title: str, body: str, link: str, receipt: str, reference: str) -> bytes:
    notification = {
        "title": title,
        "body": body,
        "navigate": link,
        "tag": f"a-{reference}",  # with renotify false, a repeat replaces what is on the screen, silently
        "lang": "en-GB",
        "silent": False,
        "requireInteraction": message.severity is Severity.CRITICAL,
        "renotify": False,
        "data": {"receipt": receipt, "delivery": reference, "alert": message.alert},
    }
    return _compact({"web_push": 8030, "notification": notification}).encode()


#: Where a recipient's own parts stand in the payload that all share. No text can hold these by chance or by design.
_LINK, _RECEIPT, _REFERENCE = (secrets.token_hex(16) for _ in range(3))
_PARTS: Final = re.compile(f"({_LINK}|{_RECEIPT}|{_REFERENCE})")


def _words(message: Message, urls: int) -> tuple[str, tuple[str, ...]]:
    """The text, and the payload cut at the recipient's own parts; the body shortened so that it stays within AIM.

    ``urls`` is what a recipient's own parts take in bytes: the same for most, so that recipients share the work.
    """
    title = f"{'DRILL: ' if message.drill else ''}{' '.join(message.title.split())}"
    room = AIM - len(_payload(message, title, "", "", "", "x" * 7)) - urls
    body = _shortened(message.body.strip(), room)
    payload = _payload(message, title, body, _LINK, _RECEIPT, _REFERENCE).decode()
    return f"{title}\n{body}", tuple(_PARTS.split(payload))


def _shortened(body: str, room: int) -> str:
    """The longest beginning of the body that takes at most ``room`` bytes in JSON."""

    def fits(text: str) -> bool:
        return len(_compact(text).encode()) - 2 <= room

    if fits(body):
        return body
    low, high = 0, len(body)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(body[:middle] + "…") else (low, middle - 1)
    return body[:low].rstrip() + "…" if low else ""


def _host(request: _Prepared) -> str:
    return (request.target.host or "") if isinstance(request, _Request) else "none"


def _endpoint_of(address: str) -> str:
    return str(json.loads(address)["endpoint"])


_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode  # ``json.dumps`` makes one each time


def _compact(value: object) -> str:
    return _encode(value)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """base64url with or without padding. Strict: Python's decoder skips foreign characters otherwise."""
    plain = text.strip().rstrip("=").replace("+", "-").replace("/", "_").encode("ascii")
    return base64.b64decode(plain + b"=" * (-len(plain) % 4), altchars=b"-_", validate=True)
