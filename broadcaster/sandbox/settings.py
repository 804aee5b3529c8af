"""What is fixed when the sandbox starts (`SandboxConfig`) and what may be changed while it runs
(`Settings`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from broadcaster.sandbox import credentials


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """How one sandbox starts.

    `port` 0 takes a free one. `sms_rate` is segments per second and sender, None = at once. `seed` decides
    every random choice of the faults. `callback_hosts` are host names, besides loopback, that callbacks may
    go to. `public_origin` is the origin clients use when it is not `http://host:port` (behind a container's
    port mapping): endpoints and the VAPID audience are made from it. `state_path` keeps simulated browsers
    over a restart. `notify_callback_url` is where GOV.UK Notify's delivery receipts go. `smtp_port` and
    `imap_port` are the mail system's, 0 for free ones.
    """

    host: str = "127.0.0.1"
    port: int = 0
    twilio_account_sid: str = credentials.ACCOUNT_SID
    twilio_auth_token: str = credentials.AUTH_TOKEN
    slack_token: str = credentials.SLACK_TOKEN
    sms_rate: float | None = None
    seed: int = 0
    callback_hosts: frozenset[str] = frozenset()
    public_origin: str | None = None
    state_path: Path | None = None
    notify_callback_url: str = ""
    smtp_port: int = 0
    imap_port: int = 0


@dataclass(slots=True)
class Settings:
    """What `POST /_sandbox/settings` may change.

    | field | unit | meaning |
    |---|---|---|
    | sms_rate | segments/s per sender, null = no queue | how fast a sender's queue drains |
    | sms_delivery_seconds | s | from `sent` to the final status |
    | sms_callback_statuses | list | called back: of queued, sending, sent and the final one |
    | list_lag | s | how far Twilio's message list is behind its sends |
    | slack_channel_rate, slack_channel_burst | messages/s; messages | per channel, as Slack limits it |
    | slack_dm_rate | messages/s, null = off | the same for direct messages |
    | sms_undelivered, notify_undelivered | 0 to 1 | share that is taken and finally not delivered, by the route's fault |
    | notify_callback_url | URL | where Notify's delivery receipts go; empty: nowhere |
    | notify_rate_per_minute | requests, null = off | Notify's limit for one type of key |
    | slack_workspace_rate, slack_workspace_burst | as above, null = off | over all of `chat.postMessage` |
    """

    sms_rate: float | None = None
    sms_delivery_seconds: float = 0.05
    sms_callback_statuses: tuple[str, ...] = ("sent", "delivered", "undelivered", "failed")
    list_lag: float = 0.0
    slack_channel_rate: float | None = 1.0
    slack_channel_burst: int = 5
    slack_dm_rate: float | None = None
    slack_workspace_rate: float | None = None
    slack_workspace_burst: int = 50
    sms_undelivered: float = 0.0
    notify_undelivered: float = 0.0
    notify_callback_url: str = ""
    notify_rate_per_minute: int | None = 3000
