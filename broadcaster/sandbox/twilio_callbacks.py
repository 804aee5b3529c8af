"""Twilio's status callbacks and inbound messages: signed form posts.

X-Twilio-Signature = base64(HMAC-SHA1(auth token, URL + each POST parameter's name and value, sorted by name))
(https://www.twilio.com/docs/usage/security#validating-requests). A callback is tried again once, and only
when no connection came about (https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides, the
default).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Mapping
from urllib.parse import urlencode

from broadcaster.sandbox.outbox import Outbox
from broadcaster.sandbox.settings import Settings


def sign(token: str, url: str, fields: Mapping[str, str]) -> str:
    """The value of X-Twilio-Signature."""
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


class Callbacks:
    """Posts what happened to messages, in order unless a fault says otherwise."""

    def __init__(self, account: str, token: str, settings: Settings, outbox: Outbox) -> None:
        self._account = account
        self._token = token
        self._settings = settings
        self._outbox = outbox

    def report(self, url: str, final: dict[str, str], earlier: tuple[str, ...], odd: Mapping[str, float]) -> None:
        """Queues a message's callbacks: those `earlier` statuses that are wanted, then the final one."""
        if "callback_lost" in odd:
            return
        wanted = self._settings.sms_callback_statuses
        steps = [_with_status(final, status) for status in earlier if status in wanted]
        if final["MessageStatus"] in wanted:
            steps.append(final)
        if "callback_out_of_order" in odd:
            steps.reverse()
        if "callback_twice" in odd:
            steps = [step for step in steps for _ in range(2)]
        if not steps:
            return
        forged = "callback_forged" in odd

        async def job() -> None:
            for fields in steps:
                await self._post(url, fields, forged)

        self._outbox.put(job, odd.get("callback_late", 0.0))

    async def early(self, url: str, fields: dict[str, str]) -> None:
        """Calls back while the create still waits for its answer: the client does not know the sid yet."""
        await self._post(url, _with_status(fields, "sent"), forged=False)

    def inbound(self, url: str, sender: str, to: str, body: str) -> str:
        """Queues a text from a phone to one of our numbers; gives its sid."""
        sid = "SM" + os.urandom(16).hex()
        fields = {
            "MessageSid": sid,
            "SmsSid": sid,
            "SmsMessageSid": sid,
            "AccountSid": self._account,
            "From": sender,
            "To": to,
            "Body": body,
            "NumMedia": "0",
            "NumSegments": "1",
            "SmsStatus": "received",
            "ApiVersion": "2010-04-01",
        }
        word = body.strip().upper()
        if word in _OPT_WORDS:
            fields["OptOutType"] = _OPT_WORDS[word]

        async def job() -> None:
            await self._post(url, fields, forged=False)

        self._outbox.put(job)
        return sid

    async def _post(self, url: str, fields: Mapping[str, str], forged: bool) -> None:
        signature = sign("0" * 32 if forged else self._token, url, fields)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            "X-Twilio-Signature": signature,
            "User-Agent": "TwilioProxy/1.1",
        }
        await self._outbox.post(url, urlencode(fields).encode(), headers, retries=1)


_OPT_WORDS = {"STOP": "STOP", "UNSUBSCRIBE": "STOP", "START": "START", "HELP": "HELP"}


def _with_status(fields: dict[str, str], status: str) -> dict[str, str]:
    changed = {name: value for name, value in fields.items() if name != "ErrorCode"}
    changed["MessageStatus"] = changed["SmsStatus"] = status
    return changed
