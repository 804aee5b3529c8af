"""The product watches itself: an alert to one person, from API to receipt, as any program would send it.

The person is best a test phone or a browser of one's own. The alert's own title says what it is.
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import aiohttp
from pydantic import Field, StringConstraints

from broadcaster.domain.monitor import Circumstances, Reading, Verdict
from broadcaster.monitors import fields, findings, web, words
from broadcaster.monitors.findings import Code, Codes, Detail, Trouble, clock, deadline

TITLE: Final = "Canary: please ignore"
BODY: Final = "An automatic check that alerts arrive. There is nothing to do."
#: Seconds between looks at the alert: the first, how it grows, the longest.
_POLL: Final = (0.1, 1.5, 2.0)
#: An alert's shortest life (``expires_in`` of the API), so that canaries do not pile up behind an outage.
_SHORTEST: Final = 60
#: States in which nothing more will happen by itself.
_ENDED: Final = frozenset({"completed", "cancelled"})

CODES: Final[Codes] = {
    **findings.WELL,
    "api_unreachable": Code(Verdict.FAILED, "The alert API could not be reached."),
    "api_failed": Code(Verdict.FAILED, "The alert API answered with an error of its own or with nonsense."),
    "api_refused": Code(Verdict.FAILED, "The alert API refused our request: check key, scopes and recipient."),
    "api_throttled": Code(Verdict.UNKNOWN, "The alert API asked us to ask less often."),
    "not_delivered": Code(Verdict.FAILED, "The alert was taken in, but was not delivered in time."),
    "nobody_targeted": Code(Verdict.FAILED, "The alert was taken in, but has nobody to go to over these channels."),
    **{code: findings.TLS[code] for code in findings.TLS if code != "certificate_ends_soon"},
    **findings.OURS,
}
_KEPT: Final = frozenset({*findings.OURS, *findings.TLS})


class Config(fields.Settings):
    """Where and to whom."""

    api_url: fields.BaseUrl = Field(description='The broadcaster: "https://alerts.example.org".')
    api_key: fields.Secret = Field(description="A key with the scopes alerts:send and alerts:read.")
    recipient: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = Field(description="The recipient's id.")
    channels: list[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]] = Field(
        default=["push"], min_length=1, max_length=8, description="Channels to try; each must reach the recipient."
    )
    severity: Literal["critical", "high", "normal", "low"] = Field("low", description="The alert's severity.")
    deadline: float = Field(60.0, ge=1, le=600, description="Seconds that delivery may take.")
    degraded_after: fields.DegradedAfter = 30.0
    ca_certificates: fields.Certificates = None


class Canary:
    """``key`` makes Idempotency-Keys; each look has one, used again if the connection breaks in the middle."""

    name: Final = "canary"
    label: Final = "This product itself (canary)"
    config: Final = Config
    codes: Final = findings.meanings(CODES)

    def __init__(self, key: Callable[[], str] = lambda: f"canary-{secrets.token_hex(16)}") -> None:
        self._key = key

    async def look(self, config: Config, circumstances: Circumstances) -> Reading:
        began = clock()
        until = min(deadline(circumstances), asyncio.get_running_loop().time() + config.deadline)
        try:
            async with web.Client(config.ca_certificates) as client:
                alert = await _raise(client, config, self._key(), until)
                view = await _follow(client, config, alert, until)
        except Trouble as trouble:
            return _own(trouble).reading(CODES)
        latency = clock() - began
        return findings.well(
            CODES, f"An alert was delivered after {words.seconds(latency)}.", latency=latency,
            degraded_after=config.degraded_after, detail=_counts(view),
        )  # fmt: skip


async def _raise(client: web.Client, config: Config, key: str, until: float) -> str:
    """The alert's id. Raises Trouble."""
    alert = {
        "title": TITLE,
        "body": BODY,
        "severity": config.severity,
        "audience": {"recipients": [config.recipient]},
        "channels": config.channels,
        "expires_in": max(_SHORTEST, int(config.deadline) + 1),
    }
    url = f"{config.api_url}/api/v1/alerts"
    headers = {**_headers(config), "Idempotency-Key": key}
    try:
        answer = await _call(client, "POST", url, 202, until, json=alert, headers=headers)
    except Trouble as trouble:
        if trouble.code != "connection_lost":
            raise
        answer = await _call(client, "POST", url, 202, until, json=alert, headers=headers)
    found = answer.get("id")
    if not isinstance(found, str) or not 1 <= len(found) <= 64 or not found.replace("-", "").isalnum():
        raise Trouble("api_failed", detail={"at": "POST"})
    return found


async def _follow(client: web.Client, config: Config, alert: str, until: float) -> dict[str, Any]:
    """The alert once everybody is reached. ``reached`` counts deliveries, or acceptance where a channel has no receipts."""
    loop = asyncio.get_running_loop()
    pause, growth, longest = _POLL
    while True:
        view = await _call(client, "GET", f"{config.api_url}/api/v1/alerts/{alert}", 200, until, headers=_headers(config))
        state, targeted, reached = view.get("state"), view.get("targeted"), view.get("reached")
        if not isinstance(state, str) or not isinstance(targeted, int) or not isinstance(reached, int):
            raise Trouble("api_failed", detail={"at": "GET"})
        if state != "planning":
            if targeted == 0 or _skipped(view) == targeted:
                raise Trouble("nobody_targeted", detail=_counts(view))
            if reached == targeted:
                return view
        if state in _ENDED or loop.time() + pause >= until:
            raise Trouble("not_delivered", detail=_counts(view))
        await asyncio.sleep(pause)
        pause = min(pause * growth, longest)


async def _call(client: web.Client, method: str, url: str, wanted: int, until: float, **options: Any) -> dict[str, Any]:
    """One request and its JSON. Raises Trouble with the API's own words for what it refuses (RFC 9457 ``type``)."""
    async with web.at(method, client, until), client.request(method, url, **options) as response:
        answer = await web.json_object(response)
    if response.status == wanted and answer:
        return answer
    raise _refusal(method, response, answer)


def _refusal(method: str, response: aiohttp.ClientResponse, answer: dict[str, Any]) -> Trouble:
    status = response.status
    detail: Detail = {"at": method, "http_status": status, "problem": words.printable(str(answer.get("type", "")))}
    if status == 429:
        return Trouble("api_throttled", detail=detail)
    if 400 <= status < 500:
        reason = f"The alert API refused our request ({status}): check key, scopes and recipient."
        return Trouble("api_refused", reason, detail=detail, refused=status in (401, 403))
    return Trouble("api_failed", f"The alert API answered with status {status}.", detail=detail)


def _headers(config: Config) -> dict[str, str]:
    return {"Authorization": f"Bearer {config.api_key.get_secret_value()}", "Accept": "application/json"}


def _skipped(view: dict[str, Any]) -> int:
    return sum(n for each in _channels(view) if isinstance(n := (each.get("counts") or {}).get("skipped", 0), int))


def _counts(view: dict[str, Any]) -> dict[str, str | int | float | bool | None]:
    """Evidence: the whole, and for each channel "reached of targeted"."""
    found: dict[str, str | int | float | bool | None] = {name: view[name] for name in ("state", "targeted", "reached")}
    for each in _channels(view):
        name = words.printable(str(each.get("channel", "?")))
        found[name] = words.printable(f"{each.get('reached')} of {each.get('targeted')}")
    return found


def _channels(view: dict[str, Any]) -> list[dict[str, Any]]:
    channels = view.get("channels")
    return [each for each in channels[:8] if isinstance(each, dict)] if isinstance(channels, list) else []


def _own(trouble: Trouble) -> Trouble:
    """The network's faults in this kind's words."""
    if trouble.code in CODES and (trouble.code in _KEPT or not trouble.code.startswith("connect")):
        return trouble
    code = "api_failed" if trouble.code == "not_http" else "api_unreachable"
    return Trouble(code, detail={**trouble.detail, "cause": trouble.code})
