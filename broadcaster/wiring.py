"""The one place that turns settings into objects. Made once per process, after any fork."""

import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import redis
import structlog
from prometheus_client import Gauge
from sqlalchemy.exc import SQLAlchemyError

from broadcaster.channels.endpoints import Allowed
from broadcaster.channels.notify import NotifyConfig, NotifySms
from broadcaster.channels.push import WebPush, WebPushConfig, generate_vapid, public_key
from broadcaster.channels.slack import SlackConfig, SlackMessages
from broadcaster.channels.sms import TwilioConfig, TwilioSms
from broadcaster.domain.channel import Channel, ChannelSet
from broadcaster.domain.monitor import Kind
from broadcaster.ingest.formats import FORMATS
from broadcaster.monitors.kinds import KINDS
from broadcaster.monitors.tcp import reachable
from broadcaster.queue import WakeUps
from broadcaster.services import ratelimit
from broadcaster.services.alerts import Alerts
from broadcaster.services.delivering import Deliverer
from broadcaster.services.directory import Directory
from broadcaster.services.flights import Loop
from broadcaster.services.importing import Importer
from broadcaster.services.incidents import Incidents
from broadcaster.services.keys import Keys, RequestRate
from broadcaster.services.lifesign import Lifesign
from broadcaster.services.looking import Looker
from broadcaster.services.monitors import Monitors
from broadcaster.services.planning import Planner
from broadcaster.services.processes import owner
from broadcaster.services.progress import Progress
from broadcaster.services.ratelimit import RateLimiter
from broadcaster.services.receipts import Receipts
from broadcaster.services.routing import Routing
from broadcaster.services.sealing import Sealer
from broadcaster.services.signals import Signals
from broadcaster.services.subscriptions import Subscriptions
from broadcaster.settings import Settings
from broadcaster.store import batches, processes
from broadcaster.store.database import SQLITE_BUSY_SECONDS, UNAVAILABLE, Database

log = structlog.get_logger(__name__)

# The sandbox's fixed, public credentials (a test holds them to the sandbox's own).
SANDBOX_ACCOUNT_SID: Final = "AC" + "5a" * 16
SANDBOX_AUTH_TOKEN: Final = "5a4db0c5" * 4
SANDBOX_MESSAGING_SERVICE_SID: Final = "MG" + "5a" * 16
SANDBOX_NOTIFY_API_KEY: Final = "sandbox-5a5a5a5a-5a5a-4a5a-8a5a-5a5a5a5a5a5a-5a4db0c5-5a4d-4b0c-85a4-5a4db0c55a4d"
SANDBOX_NOTIFY_TEMPLATE_ID: Final = "5a5a5a5a-0000-4000-8000-000000000001"
SANDBOX_NOTIFY_CALLBACK_TOKEN: Final = "sandbox-receipts-5a4db0c5"  # noqa: S105 - public
SANDBOX_SLACK_TOKEN: Final = "xoxb-sandbox-000000000000-broadcaster"  # noqa: S105 - public
HEARTBEATS_PER_MINUTE: Final = 300  # of one address; a monitor looks once a second at most
_WORKERS: Final = Gauge("broadcaster_workers", "Worker processes seen in the last 5 s")
_BATCHES_DUE: Final = Gauge("broadcaster_batches_due", "Batches whose time has come")
_DELIVERIES: Final = Gauge("broadcaster_deliveries", "Deliveries of all alerts, by state", ["channel", "state"])
_RUNS: Final = Gauge("broadcaster_batch_runs", "Batch runs ever, by what began them", ["by"])
_SANDBOX_SUBJECT: Final = "mailto:sandbox@alert-broadcaster.invalid"


@dataclass(frozen=True)
class Wiring:
    """Everything a process works with. Parts are made when they are first asked for.

    ``patience``: seconds to wait for SQLite's write lock; a caller of the API is told sooner than a worker gives up.
    """

    settings: Settings
    patience: float = SQLITE_BUSY_SECONDS

    @property
    def sandbox_only(self) -> bool:
        """Whether nothing can reach a real person."""
        return not self.settings.providers

    @cached_property
    def database(self) -> Database:
        _private_directory(self.settings.data_dir)
        return Database(self.settings.resolved_database_url, busy_seconds=self.patience)

    @cached_property
    def secret(self) -> bytes:
        given = self.settings.secret_key.get_secret_value()
        return given.encode() if given else _kept(self.settings.data_dir / "secret.key", lambda: secrets.token_urlsafe(48))

    @cached_property
    def vapid_private_key(self) -> str:
        given = self.settings.vapid_private_key.get_secret_value()
        return given or _kept(self.settings.data_dir / "vapid.key", lambda: generate_vapid()[0]).decode()

    @cached_property
    def vapid_public_key(self) -> str:
        return public_key(self.vapid_private_key)

    @cached_property
    def channels(self) -> ChannelSet:
        """A new channel is one more line in ``_live`` and one in ``_sandboxed``; a further route one in ``_sms_routes``."""
        stand_ins: dict[str, Channel] = {}
        further: dict[str, Sequence[Channel]] = {}
        if self.sandbox_only or self.settings.sandbox_url:
            stand_ins = self._sandboxed(simulate=not self.sandbox_only)
            further[stand_ins["sms"].route] = [self._sandboxed_notify()]
        if self.sandbox_only:
            return ChannelSet(live=stand_ins, sandbox=stand_ins, further=further)
        live = self._live()
        if sms := self._sms_routes():
            live["sms"] = sms[0]
            further[sms[0].route] = sms[1:]
        return ChannelSet(live=live, sandbox=stand_ins, further=further)

    @cached_property
    def wake_ups(self) -> WakeUps:
        return WakeUps(self.settings.resolved_redis_url)

    @cached_property
    def limiter(self) -> RateLimiter:
        seconds = ratelimit.REDIS_SECONDS
        client = redis_client(self.settings.resolved_redis_url, seconds)
        return RateLimiter(client, self._live_workers)

    @cached_property
    def routing(self) -> Routing:
        return Routing(self.database, self.channels)

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.database)

    @cached_property
    def request_rate(self) -> RequestRate:
        return RequestRate(self.settings.rate_limit_per_minute)

    @cached_property
    def heartbeat_rate(self) -> RequestRate:
        return RequestRate(HEARTBEATS_PER_MINUTE)

    @cached_property
    def directory(self) -> Directory:
        return Directory(self.database, self.channels)

    @cached_property
    def importer(self) -> Importer:
        return Importer(self.database, self.channels)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        url = self.settings.resolved_public_url
        return Subscriptions(self.database, self.channels, self.secret, url, self.vapid_public_key)

    @cached_property
    def alerts(self) -> Alerts:
        url = self.settings.resolved_public_url
        return Alerts(self.database, self.channels, self.wake_ups, secret=self.secret, public_url=url)

    @cached_property
    def sealer(self) -> Sealer:
        return Sealer(self.secret)

    @cached_property
    def kinds(self) -> Mapping[str, Kind]:
        """A new kind of monitor is one more line in ``monitors.kinds``."""
        return KINDS

    @cached_property
    def incidents(self) -> Incidents:
        return Incidents(
            self.database,
            self.alerts,
            lambda test: self.keys.itself(test=test),
            owner=owner,
            source=self.settings.source,
            expires_in=self.settings.expires_in,
            timezone=self.settings.timezone,
        )

    @cached_property
    def monitors(self) -> Monitors:
        return Monitors(self.database, self.kinds, self.alerts, self.incidents, self.sealer)

    @cached_property
    def signals(self) -> Signals:
        """A new format is one more line in ``ingest.formats``."""
        return Signals(self.database, FORMATS, self.alerts, self.incidents, self.sealer)

    def lifesign(self, loop: Loop) -> Lifesign:
        url = self.settings.heartbeat_url.get_secret_value()
        return Lifesign(self.database, loop, url, self.settings.heartbeat_seconds)

    def looker(self, loop: Loop, *, grace: int) -> Looker:
        """``grace``: ms that others have to take a look first."""
        return Looker(
            self.database,
            self.kinds,
            self.incidents,
            loop,
            self.sealer,
            reachable,
            owner=owner(),
            vantage=self.settings.vantage,
            grace=grace,
        )

    @cached_property
    def progress(self) -> Progress:
        return Progress(self.database, self.channels, self.secret)

    @cached_property
    def receipts(self) -> Receipts:
        return Receipts(self.database, self.channels, self.routing)

    def planner(self) -> Planner:
        return Planner(self.database, self.channels, self.wake_ups, owner())

    def deliverer(self, loop: Loop) -> Deliverer:
        return Deliverer(
            self.database,
            self.channels,
            self.limiter,
            loop,
            owner=owner(),
            secret=self.secret,
            public_url=self.settings.resolved_public_url,
            routing=self.routing,
        )

    def readiness(self) -> dict[str, str | None]:
        """Part -> None when ready, else one sentence. Only the database is needed to accept alerts."""
        found: dict[str, str | None] = {"database": None, "redis": None, "workers": None, "routes": None}
        try:
            with self.database.read() as connection:
                if not processes.alive(connection)[0]:
                    found["workers"] = "No worker has been seen for 5 s; alerts are kept until one comes."
                standings = self.routing.standings(connection)
            resting = [name for name in standings.by_name if standings.trouble(name) is not None]
            if resting:
                found["routes"] = f"Not used: {', '.join(resting)}."
        except SQLAlchemyError:
            found["database"] = found["workers"] = "The database does not answer."
        if not self.wake_ups.probe():
            found["redis"] = "Redis does not answer; alerts are accepted and delivered all the same."
        return found

    def observe(self) -> None:
        """Brings the gauges up to date, for one scrape."""
        with self.database.read() as connection:
            _WORKERS.set(processes.alive(connection)[0])
            _BATCHES_DUE.set(batches.count_due(connection))
            by_task, by_poller = batches.runs(connection)
            for channel, state, n in batches.totals(connection):
                _DELIVERIES.labels(channel, state).set(n)
        _RUNS.labels("task").set(by_task)
        _RUNS.labels("poller").set(by_poller)

    # ---- channels ----------------------------------------------------------------------------------------------

    def _live(self) -> dict[str, Channel]:
        s, found = self.settings, dict[str, Channel]()
        if "slack" in s.providers:
            token = s.slack_token.get_secret_value()
            found["slack"] = SlackMessages(SlackConfig(token=token, rate=s.slack_rate, timezone=s.timezone))
        if "push" in s.providers:
            allowed = Allowed(extra_hosts=s.push_hosts)
            found["push"] = WebPush(
                WebPushConfig(
                    private_key=self.vapid_private_key, subject=s.vapid_subject, token_secret=self.secret, allowed=allowed
                )
            )
        return found

    @property
    def _sms_terms(self) -> dict[str, Any]:
        """What all SMS routes have in common."""
        s = self.settings
        return {
            "token_secret": self.secret,
            "price_per_segment_micros": round(s.sms_price * 1e6),
            "currency": s.sms_currency,
            "timezone": s.timezone,
        }

    def _sms_routes(self) -> list[Channel]:
        """Those that are set up, in the order of ``sms_routes``."""
        made = {"twilio": self._twilio, "twilio2": self._twilio2, "notify": self._notify}
        return [made[name]() for name in self.settings.configured_sms_routes]

    def _twilio(self) -> Channel:
        s = self.settings
        return TwilioSms(
            TwilioConfig(
                account_sid=s.twilio_account_sid,
                auth_token=s.twilio_auth_token.get_secret_value(),
                sender=s.twilio_sender,
                messaging_service_sid=s.twilio_messaging_service_sid,
                rate=s.twilio_rate,
                **self._sms_terms,
            )
        )

    def _twilio2(self) -> Channel:
        s = self.settings
        service = s.twilio2_sender.startswith("MG")
        return TwilioSms(
            TwilioConfig(
                account_sid=s.twilio2_account_sid or s.twilio_account_sid,
                auth_token=(s.twilio2_auth_token if s.twilio2_account_sid else s.twilio_auth_token).get_secret_value(),
                sender="" if service else s.twilio2_sender,
                messaging_service_sid=s.twilio2_sender if service else "",
                rate=s.twilio2_rate,
                **self._sms_terms,
            )
        )

    def _notify(self) -> Channel:
        s = self.settings
        return NotifySms(
            NotifyConfig(
                api_key=s.notify_api_key.get_secret_value(),
                template_id=s.notify_template_id,
                callback_token=s.notify_callback_token.get_secret_value(),
                rate=s.notify_rate,
                **self._sms_terms,
            )
        )

    def _sandboxed_notify(self) -> Channel:
        """The sandbox's second SMS route: where messages go while its first one does not work."""
        s = self.settings
        return NotifySms(
            NotifyConfig(
                api_key=SANDBOX_NOTIFY_API_KEY,
                template_id=SANDBOX_NOTIFY_TEMPLATE_ID,
                callback_token=SANDBOX_NOTIFY_CALLBACK_TOKEN,
                base_url=f"{s.resolved_sandbox_url}/notify",
                lookup_rate=s.sandbox_rate,
                **self._sms_terms,
                allow_drama_numbers=True,
            )
        )

    def _sandboxed(self, *, simulate: bool) -> dict[str, Channel]:
        s, origin = self.settings, self.settings.resolved_sandbox_url
        return {
            "sms": TwilioSms(
                TwilioConfig(
                    account_sid=SANDBOX_ACCOUNT_SID,
                    auth_token=SANDBOX_AUTH_TOKEN,
                    messaging_service_sid=SANDBOX_MESSAGING_SERVICE_SID,
                    base_url=f"{origin}/twilio",
                    lookup_rate=s.sandbox_rate,
                    rate=s.sandbox_rate,
                    **self._sms_terms,
                    allow_drama_numbers=True,
                )
            ),
            "slack": SlackMessages(
                SlackConfig(
                    token=SANDBOX_SLACK_TOKEN,
                    base_url=f"{origin}/slack/api/",
                    team="sandbox",
                    lookup_rate=s.sandbox_rate / 2,
                    rate=s.sandbox_rate / 2,
                    timezone=s.timezone,
                )
            ),
            "push": WebPush(
                WebPushConfig(
                    private_key=self.vapid_private_key,
                    subject=_SANDBOX_SUBJECT,
                    token_secret=self.secret,
                    allowed=Allowed(extra_hosts=s.push_hosts if simulate else (), origins=(origin,)),
                    simulate_origin=origin if simulate else "",
                )
            ),
        }

    def _live_workers(self) -> int:
        try:
            with self.database.read() as connection:
                return processes.alive(connection)[0]
        except UNAVAILABLE:
            return self.settings.workers + self.settings.critical_workers


def redis_client(url: str, timeout: float) -> redis.Redis:
    """A client that gives up after ``timeout`` seconds. Takes Celery's URL forms: redis(s)://, redis+socket://, sentinel://."""
    options = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": None, "retry_on_timeout": False}
    if url.startswith("sentinel://"):
        first, *_ = url.removeprefix("sentinel://").split(";")
        host, _, port = first.split("@")[-1].split("/")[0].partition(":")
        sentinel = redis.Sentinel(  # type: ignore[no-untyped-call]
            [(host, int(port or 26379))], sentinel_kwargs=options
        )
        client: redis.Redis = sentinel.master_for("mymaster", **options)  # type: ignore[no-untyped-call]
        return client
    return redis.Redis.from_url(url.replace("redis+socket://", "unix://", 1), **options)


def _private_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _kept(path: Path, make: Callable[[], str]) -> bytes:
    """A secret made at first use and kept for this user only. Safe with many processes starting at once."""
    _private_directory(path.parent)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    if not path.exists():
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
        try:
            os.link(fresh, path)  # fails where another process was first, and then its secret is the one
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip().encode()


_NUMBER: Final = re.compile(
    r"\+\d{6,14}(?=\d)|\b(ab_(?:live|test)_[a-z0-9]{12}_)[A-Za-z0-9_-]+|(/enrol/|/console/enter/|/m/|/heartbeats/|/signals/|[?&]d=)[^\s\"'&]+"
)


def configure_log(settings: Settings) -> None:
    """Log lines are events with fields, on stderr; the standard library's loggers go the same way.

    A last net masks phone numbers, keys and secret addresses wherever they stand; the first is not to log them.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        without_details,
    ]
    render: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if settings.log_format == "text":
        render = structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level]),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render, _mask],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(settings.log_level)
    for name in ("uvicorn.access", "alembic", "twilio", "slack_sdk", "aiohttp.access", "celery.redirected"):
        logging.getLogger(name).setLevel(logging.WARNING)


#: PostgreSQL's own words about a row, in the text of an exception.
_DETAILS: Final = re.compile(
    r"^(DETAIL|CONTEXT|QUERY):.*?(?=^\[SQL|^\[Error|^The above|^During|^Traceback|\Z)", re.MULTILINE | re.DOTALL
)


def without_details(_logger: object, _name: str, event: "structlog.typing.EventDict") -> "structlog.typing.EventDict":
    """They quote values of the row, such as an address: only what kind of fault it was is told."""
    if "exception" in event:
        event["exception"] = _DETAILS.sub("", event["exception"])
    return event


def _mask(_logger: object, _name: str, rendered: "structlog.typing.EventDict | str") -> str:
    return _NUMBER.sub(lambda m: (m[1] or m[2] or "+") + "…", str(rendered))
