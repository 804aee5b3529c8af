"""Access tokens by client credentials (RFC 6749 §4.4), kept until shortly before they end.

A token service that fails says nothing about the mail behind it, so its faults are UNKNOWN; ours to fix where it refuses us.
"""

import hashlib
import time
from collections.abc import Callable
from typing import Final

import aiohttp
from pydantic import SecretStr

from broadcaster.monitors import web, words
from broadcaster.monitors.fields import Auth, OAuth
from broadcaster.monitors.findings import Detail, Trouble

#: Seconds before its end from which a token is not used any more.
EARLY: Final = 120.0
#: Tokens kept at most; a kind has one or two.
_KEPT: Final = 64


class Tokens:
    """Tokens of one kind. ``clock`` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[str, float]] = {}

    async def get(self, url: str, client_id: str, secret: SecretStr, scope: str, until: float) -> str:
        """A token that is still good. Raises Trouble: ``token_refused`` or ``token_unavailable``."""
        key = self._key(url, client_id, secret, scope)
        token, ends = self._kept.get(key, ("", 0.0))
        if ends - EARLY > self._clock():
            return token
        token, lifetime = await _ask(url, client_id, secret, scope, until)
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        self._kept[key] = token, self._clock() + lifetime
        return token

    def has(self, url: str, client_id: str, secret: SecretStr, scope: str) -> bool:
        """Whether ``get`` would ask nobody."""
        return self._kept.get(self._key(url, client_id, secret, scope), ("", 0.0))[1] - EARLY > self._clock()

    def forget(self, url: str, client_id: str, secret: SecretStr, scope: str) -> None:
        """The token was refused."""
        self._kept.pop(self._key(url, client_id, secret, scope), None)

    @staticmethod
    def _key(url: str, client_id: str, secret: SecretStr, scope: str) -> str:
        """A changed secret must not go on with the old one's token; and the secret itself need not lie about."""
        return hashlib.sha256("\0".join((url, client_id, secret.get_secret_value(), scope)).encode()).hexdigest()


def wanted(config: OAuth) -> tuple[str, str, SecretStr, str]:
    """What to ask the token service for; a model that allows xoauth2 has seen to it that it is all there."""
    assert config.oauth_token_url
    assert config.oauth_client_id
    assert config.oauth_client_secret
    return config.oauth_token_url, config.oauth_client_id, config.oauth_client_secret, config.oauth_scope


async def secret(tokens: Tokens, config: OAuth, auth: Auth, password: SecretStr | None, until: float) -> str:
    """What to sign in with: nothing, the password, or a token. Raises Trouble."""
    if auth is Auth.XOAUTH2:
        return await tokens.get(*wanted(config), until)
    return password.get_secret_value() if auth is Auth.PASSWORD and password is not None else ""


async def _ask(url: str, client_id: str, secret: SecretStr, scope: str, until: float) -> tuple[str, float]:
    """A new token and its life in seconds."""
    form = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": secret.get_secret_value(),
        "scope": scope,
    }
    try:
        async with (
            web.Client() as client,
            web.at("token", client, until),
            client.request("POST", url, data=form) as response,
        ):
            answer = await web.json_object(response)
    except Trouble as trouble:
        detail = {"cause": trouble.code, "at": "token"}
        raise Trouble("token_unavailable", detail=detail) from None
    return _read(response, answer)


def _read(response: aiohttp.ClientResponse, answer: dict[str, object]) -> tuple[str, float]:
    """RFC 6749 §5.1 and §5.2. A 4xx is a refusal, but for 408 and 429."""
    detail: Detail = {"http_status": response.status, "at": "token"}
    if response.status in (408, 429) or response.status >= 500 or response.status < 200:
        raise Trouble("token_unavailable", detail=detail)
    if response.status >= 300:
        error = answer.get("error")
        named = {"error": words.printable(error)} if isinstance(error, str) else {}
        raise Trouble("token_refused", detail={**detail, **named}, refused=True)
    token, lifetime = answer.get("access_token"), answer.get("expires_in", 300)
    if not isinstance(token, str) or not token or not token.isprintable() or not isinstance(lifetime, int | float | str):
        raise Trouble("token_unavailable", detail=detail)
    try:
        return token, min(max(float(lifetime), 0.0), 86_400.0)
    except ValueError:
        return token, 300.0
