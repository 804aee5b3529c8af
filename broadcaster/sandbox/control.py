"""`/_sandbox/…`: what tests, demos and the supervisor tell the sandbox and ask it. Bodies are JSON, read
strictly."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from broadcaster.sandbox import replies
from broadcaster.sandbox.faults import Faults
from broadcaster.sandbox.ledger import CHANNELS, Ledger
from broadcaster.sandbox.mail import Mail
from broadcaster.sandbox.notify import Notify
from broadcaster.sandbox.outbox import Outbox
from broadcaster.sandbox.push import Push
from broadcaster.sandbox.settings import Settings
from broadcaster.sandbox.slack import Slack
from broadcaster.sandbox.slack_rules import CHANNEL_ID, USER_ID
from broadcaster.sandbox.twilio import Twilio
from broadcaster.sandbox.vapid import b64decode

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_STATUSES = ("queued", "sending", "sent", "delivered", "undelivered", "failed")
MOST_BROWSERS = 100_000


def _matching(pattern: re.Pattern[str], what: str) -> replies.Reader:
    def read(raw: Any) -> str:
        if not isinstance(raw, str) or not pattern.fullmatch(raw):
            raise replies.BadValue(f"must be {what}")
        return raw

    return read


def _public_key(raw: Any) -> bytes:
    key = b64decode(raw) if isinstance(raw, str) else b""
    if len(key) != 65 or key[0] != 4:
        raise replies.BadValue("must be an uncompressed P-256 point, base64url without padding")
    return key


def _objects(readers: dict[str, replies.Reader], required: tuple[str, ...]) -> replies.Reader:
    def read(raw: Any) -> dict[str, Any]:
        if not isinstance(raw, dict):
            raise replies.BadValue("must be an object")
        return replies.pick(raw, readers, required)

    return replies.list_of(read, 2_000_000)


_PHONE = _matching(_E164, "a phone number in E.164")
_RATE = replies.or_none(replies.number(0.001, 1_000_000))

_SETTINGS: dict[str, replies.Reader] = {
    "sms_rate": _RATE,
    "sms_delivery_seconds": replies.number(0, 86_400),
    "sms_callback_statuses": lambda raw: tuple(replies.list_of(replies.one_of(*_STATUSES), 6)(raw)),
    "list_lag": replies.number(0, 86_400),
    "slack_channel_rate": _RATE,
    "slack_channel_burst": replies.whole(1, 1_000_000),
    "slack_dm_rate": _RATE,
    "slack_workspace_rate": _RATE,
    "slack_workspace_burst": replies.whole(1, 1_000_000),
    "sms_undelivered": replies.number(0, 1),
    "notify_undelivered": replies.number(0, 1),
    "notify_callback_url": replies.text,
    "notify_rate_per_minute": replies.or_none(replies.whole(1, 100_000_000)),
}
_BROWSERS: dict[str, replies.Reader] = {
    "count": replies.whole(1, MOST_BROWSERS),
    "application_server_key": replies.or_none(_public_key),
    "receipts": replies.flag,
    "labels": replies.list_of(replies.text, MOST_BROWSERS),
}
_BROWSER_STATE: dict[str, replies.Reader] = {
    "endpoints": replies.list_of(replies.text, MOST_BROWSERS),
    "online": replies.flag,
    "unsubscribed": replies.flag,
    "dismiss": replies.flag,
}
_PEOPLE: dict[str, replies.Reader] = {
    "people": _objects({"name": replies.text, "phone": _PHONE, "slack": replies.text, "endpoint": replies.text}, ("name",))
}
_USERS: dict[str, replies.Reader] = {
    "users": _objects(
        {"id": _matching(USER_ID, "a user id"), "name": replies.text, "email": replies.or_none(replies.text)},
        ("name",),
    )
}
_SLACK_CHANNELS: dict[str, replies.Reader] = {
    "channels": _objects({"id": _matching(CHANNEL_ID, "a channel id"), "name": replies.text}, ("name",))
}
_INBOUND: dict[str, replies.Reader] = {
    "from": _PHONE,
    "to": _PHONE,
    "body": replies.text,
    "url": replies.text,
}


@web.middleware
async def bad_input(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns `BadInput` into a 400 problem document. Only on the control application: the providers pay
    nothing.

    A browser names the page that posts (Fetch standard, `Origin`): a foreign one is turned away.
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}" and request.method != "GET":
        return replies.problem(403, "Forbidden", "a page of another origin may not do this")
    try:
        return await handler(request)
    except replies.BadInput as error:
        return replies.problem(400, "Bad request", str(error))


class Control:
    """The routes under `/_sandbox`."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        faults: Faults,
        outbox: Outbox,
        twilio: Twilio,
        notify: Notify,
        slack: Slack,
        push: Push,
        mail: Mail,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._faults = faults
        self._outbox = outbox
        self._twilio = twilio
        self._notify = notify
        self._slack = slack
        self._push = push
        self._mail = mail

    def routes(self) -> list[web.RouteDef]:
        """Relative to `/_sandbox`."""
        return [
            web.get("/health", self.health),
            web.get("/ledger", self.ledger),
            web.get("/summary", self.summary),
            web.get("/requests", self.requests),
            web.get("/messages", self.messages),
            web.post("/reset", self.reset),
            web.get("/settings", self.settings),
            web.post("/settings", self.change_settings),
            web.get("/faults", self.list_faults),
            web.post("/faults", self.add_fault),
            web.delete("/faults", self.clear_faults),
            web.delete("/faults/{id:[0-9]{1,9}}", self.clear_faults),
            web.get("/mail", self.mail),
            web.post("/people", self.people),
            web.post("/browsers", self.browsers),
            web.post("/browsers/state", self.browser_state),
            web.post("/slack/users", self.slack_users),
            web.post("/slack/channels", self.slack_channels),
            web.post("/twilio/inbound", self.inbound),
        ]

    # -- asking

    async def health(self, _request: web.Request) -> web.Response:
        """GET health → {"ok": true, "origin"}."""
        return replies.json_reply({"ok": True, "origin": self._push.origin})

    async def ledger(self, request: web.Request) -> web.Response:
        """GET ledger?after=SEQ&channel=&limit= → {"items", "next"}; ask again with after=next."""
        channel = request.query.get("channel")
        if channel is not None and channel not in CHANNELS:
            raise replies.BadInput(f"query 'channel' must be one of {', '.join(CHANNELS)}")
        after = replies.query_int(request, "after", 0, 0, 10**15)
        limit = replies.query_int(request, "limit", 1000, 1, 10_000)
        found, reached = self._ledger.after(after, channel, limit)
        return replies.json_reply({"items": [entry.as_json() for entry in found], "next": reached})

    async def summary(self, _request: web.Request) -> web.Response:
        """GET summary → {"channels": {"sms": {…}, …}, "first_at", "last_at", "known", "callbacks"}."""
        callbacks = {"pending": self._outbox.pending, **self._outbox.counts}
        return replies.json_reply(self._ledger.summary() | {"callbacks": callbacks})

    async def requests(self, _request: web.Request) -> web.Response:
        """GET requests → {"items": [{"provider", "operation", "answer", "count"}…]}."""
        names = ("provider", "operation", "answer")
        items = [{**dict(zip(names, key, strict=True)), "count": n} for key, n in sorted(self._ledger.requests.items())]
        return replies.json_reply({"items": items})

    async def messages(self, request: web.Request) -> web.Response:
        """GET messages?channel=&address= → the last messages of one address, newest first."""
        tile = self._ledger.find_tile(request.query.get("channel", ""), request.query.get("address", ""))
        if tile is None:
            return replies.problem(404, "Not found", "no such address")
        items = [entry.as_json() for entry in reversed(tile.entries)]
        return replies.json_reply({"name": tile.name, "address": tile.address, "channel": tile.channel, "items": items})

    async def mail(self, _request: web.Request) -> web.Response:
        """GET mail → how to use the mail system, and what became of the messages: see `Mail.as_json`."""
        return replies.json_reply(self._mail.as_json())

    # -- telling

    async def reset(self, _request: web.Request) -> web.Response:
        """POST reset: forgets messages (mail too), counts, faults and pending callbacks; keeps settings, people
        and browsers."""
        self._outbox.clear()
        self._twilio.clear()
        self._notify.clear()
        self._slack.clear()
        self._push.clear()
        self._faults.clear()
        self._ledger.clear()
        self._mail.clear()
        await self._mail.follow_faults()
        return replies.json_reply({"ok": True})

    async def settings(self, _request: web.Request) -> web.Response:
        """GET settings → every setting."""
        return replies.json_reply(asdict(self._settings))

    async def change_settings(self, request: web.Request) -> web.Response:
        """POST settings {name: value…} → every setting."""
        for name, value in replies.pick(await replies.read_object(request), _SETTINGS).items():
            setattr(self._settings, name, value)
        return replies.json_reply(asdict(self._settings))

    async def list_faults(self, _request: web.Request) -> web.Response:
        """GET faults → {"faults": […]}."""
        return replies.json_reply({"faults": self._faults.as_json()})

    async def add_fault(self, request: web.Request) -> web.Response:
        """POST faults: see `faults`; 201 with the fault and its id, once it is in force."""
        made = self._faults.add(await replies.read_object(request))
        await self._mail.follow_faults()
        return replies.json_reply(made, status=201)

    async def clear_faults(self, request: web.Request) -> web.Response:
        """DELETE faults, faults/{id} → {"removed": n}; 404 for an unknown id."""
        raw = request.match_info.get("id")
        removed = self._faults.clear(None if raw is None else int(raw))
        if raw is not None and not removed:
            return replies.problem(404, "Not found", "no such fault")
        await self._mail.follow_faults()
        return replies.json_reply({"removed": removed})

    async def people(self, request: web.Request) -> web.Response:
        """POST people {"people": [{"name", "phone"?, "slack"?, "endpoint"?}…]}: names on the wall, in
        advance."""
        read = replies.pick(await replies.read_object(request), _PEOPLE, ("people",))
        for person in read["people"]:
            for field, channel in (("phone", "sms"), ("slack", "slack"), ("endpoint", "push")):
                if field in person:
                    self._ledger.name(channel, person[field], person["name"])
        return replies.json_reply({"known": len(self._ledger.tiles)})

    async def browsers(self, request: web.Request) -> web.Response:
        """POST browsers {"count", "application_server_key"?, "receipts"?, "labels"?} → 201 {"subscriptions":
        […]}."""
        read = replies.pick(await replies.read_object(request), _BROWSERS, ("count",))
        labels = read.get("labels", [])
        if len(labels) > read["count"]:
            raise replies.BadInput("field 'labels': more labels than browsers")
        made = await self._push.add_browsers(
            read["count"], read.get("application_server_key"), read.get("receipts", True), labels
        )
        return replies.json_reply({"subscriptions": made}, status=201)

    async def browser_state(self, request: web.Request) -> web.Response:
        """POST browsers/state {"endpoints", "online"?, "unsubscribed"?, "dismiss"?} → {"changed": n}.

        online: away or back; unsubscribed: pushes get 410 (or are taken again); dismiss true: clears the
        screen.
        """
        read = replies.pick(await replies.read_object(request), _BROWSER_STATE, ("endpoints",))
        found = [self._push.find(endpoint) for endpoint in read["endpoints"]]
        if None in found:
            raise replies.BadInput("field 'endpoints': an endpoint is not known")
        for subscription in filter(None, found):
            if "unsubscribed" in read:
                subscription.gone = read["unsubscribed"]
            if read.get("dismiss") and subscription.browser is not None:
                subscription.browser.on_screen.clear()
            if "online" in read:
                self._push.set_online(subscription, read["online"])
        return replies.json_reply({"changed": len(found)})

    async def slack_users(self, request: web.Request) -> web.Response:
        """POST slack/users {"users": [{"name", "email"?, "id"?}…]} → {"ids": […]}."""
        read = replies.pick(await replies.read_object(request), _USERS, ("users",))
        return replies.json_reply({"ids": [self._add_user(user) for user in read["users"]]})

    def _add_user(self, user: dict[str, Any]) -> str:
        added = self._slack.directory.add_user(user["name"], user.get("email"), user.get("id"))
        self._ledger.name("slack", added, user["name"])
        return added

    async def slack_channels(self, request: web.Request) -> web.Response:
        """POST slack/channels {"channels": [{"name", "id"?}…]} → {"ids": […]}."""
        read = replies.pick(await replies.read_object(request), _SLACK_CHANNELS, ("channels",))
        ids = []
        for channel in read["channels"]:
            ids.append(self._slack.directory.add_channel(channel["name"], channel.get("id")))
            self._ledger.name("slack", ids[-1], "#" + channel["name"].lstrip("#"))
        return replies.json_reply({"ids": ids})

    async def inbound(self, request: web.Request) -> web.Response:
        """POST twilio/inbound {"from", "to", "body", "url"}: a phone texts us; a signed webhook goes to
        `url`."""
        read = replies.pick(await replies.read_object(request), _INBOUND, ("from", "to", "body", "url"))
        if not self._outbox.allows(read["url"]):
            raise replies.BadInput("field 'url': only loopback and the allowed callback hosts")
        sid = self._twilio.text_us(read["url"], read["from"], read["to"], read["body"])
        return replies.json_reply({"sid": sid}, status=202)
