"""Every setting, validated at start. ``BROADCASTER_<NAME>`` in the environment; nothing is read anywhere else.

``Settings.model_fields[...].description`` is the documentation; the README's table is checked against it by a test.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_OPTIONAL_SECRET = SecretStr("")


class Settings(BaseSettings):
    """What an operator can choose. Defaults run everything on one machine against the sandbox."""

    model_config = SettingsConfigDict(env_prefix="BROADCASTER_", extra="ignore", frozen=True)

    data_dir: Path = Field(Path(".broadcaster"), description="Where embedded parts keep their files (mode 0700).")
    database_url: str = Field("", description="postgresql://… or sqlite:///…; empty: SQLite in the data directory.")
    redis_url: SecretStr = Field(
        _OPTIONAL_SECRET,
        description="redis://, rediss:// or sentinel://; empty: an embedded server in the data directory.",
    )
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port the API listens on.")
    public_url: str = Field(
        "", description="How people and providers reach the API, for example https://alerts.example.nhs.uk."
    )
    secret_key: SecretStr = Field(
        _OPTIONAL_SECRET,
        description="32 or more random characters that sign links and receipts; empty: made once, kept in data_dir.",
    )
    source: str = Field(
        "IT service desk", max_length=60, description="Who an alert says it is from, unless it says so itself."
    )
    timezone: str = Field("Europe/London", description="Clock times in messages are written in this zone.")
    expires_in: int = Field(
        4 * 3600,
        ge=60,
        le=7 * 86400,
        description="Seconds after which an alert is no longer sent, unless it says so itself.",
    )

    twilio_account_sid: str = Field("", description="Twilio account, AC…; with it SMS goes to real people.")
    twilio_auth_token: SecretStr = Field(
        _OPTIONAL_SECRET, description="Twilio auth token; also checks the signature of callbacks."
    )
    twilio_messaging_service_sid: str = Field("", description="Messaging Service, MG…; or give twilio_sender.")
    twilio_sender: str = Field("", description="Sender: number in E.164, short code, or up to 11 letters and digits.")
    twilio_rate: float = Field(10.0, gt=0, description="Segments a second your sender is allowed.")
    twilio2_account_sid: str = Field("", description="Second SMS route: its Twilio account; empty: the first's.")
    twilio2_auth_token: SecretStr = Field(_OPTIONAL_SECRET, description="Auth token of the second account.")
    twilio2_sender: str = Field("", description="Second SMS route: sender or Messaging Service (MG…); with it there is one.")
    twilio2_rate: float = Field(10.0, gt=0, description="Segments a second the second sender is allowed.")
    notify_api_key: SecretStr = Field(_OPTIONAL_SECRET, description="GOV.UK Notify API key; with it Notify is an SMS route.")
    notify_template_id: str = Field("", description="Notify's SMS template, whose whole text is ((message)).")
    notify_callback_token: SecretStr = Field(
        _OPTIONAL_SECRET, description="Bearer token of Notify's delivery receipts, sent to <public URL>/api/v1/receipts/sms."
    )
    notify_rate: float = Field(50.0, gt=0, description="Messages a second Notify is asked for (3,000 a minute).")
    sms_routes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("twilio", "twilio2", "notify"), description="Order of the SMS routes: the first that works is used."
    )
    sms_price: float = Field(0.024, ge=0, description="Price of one SMS segment, for previews.")
    sms_currency: str = Field("GBP", min_length=3, max_length=3, description="Currency of sms_price.")

    slack_token: SecretStr = Field(_OPTIONAL_SECRET, description="Slack bot token, xoxb-…; with it Slack messages are real.")
    slack_rate: float = Field(4.0, gt=0, description="Messages a second for the whole workspace.")

    vapid_private_key: SecretStr = Field(
        _OPTIONAL_SECRET,
        description="Web push key from `broadcaster push keygen`; empty: made once, kept in the data directory.",
    )
    vapid_subject: str = Field("", description="mailto: or https: contact for push services; needed for real web push.")
    push_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Further push service hosts, comma separated; *.host for subdomains."
    )

    sandbox_url: str = Field(
        "", description="Origin of a running sandbox; empty: `broadcaster up` starts one while no provider is set."
    )
    sandbox_port: int = Field(8090, ge=0, le=65535, description="Port of the sandbox that `broadcaster up` starts.")
    sandbox_rate: float = Field(100.0, gt=0, description="Segments a second of the sandbox's SMS sender.")

    heartbeat_url: SecretStr = Field(
        _OPTIONAL_SECRET,
        description="Called (GET) while the work is done (deliveries, looks, word of outages): a dead-man service.",
    )
    heartbeat_seconds: float = Field(60.0, ge=5, description="How often heartbeat_url is called.")
    vantage: str = Field(
        "main", pattern="^[a-z0-9][a-z0-9-]{0,31}$", description="Where this host's workers look at monitors from."
    )

    workers: int = Field(3, ge=1, le=64, description="Processes that deliver, under `broadcaster up`.")
    critical_workers: int = Field(
        2, ge=1, le=64, description="Processes kept free for critical alerts, under `broadcaster up`."
    )
    rate_limit_per_minute: int = Field(6000, ge=10, description="Requests a minute one API key may make.")
    metrics_open: bool = Field(False, description="Whether /metrics answers without an API key.")
    log_format: str = Field("json", pattern="^(json|text)$", description="json, or text for a terminal.")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR.")

    @field_validator("push_hosts", "sms_routes", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("sms_routes")
    @classmethod
    def _known_routes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) < len(value) or not {*value} <= {"twilio", "twilio2", "notify"}:
            raise ValueError("name twilio, twilio2 and notify in the order you want, each once at most")
        return value

    @field_validator("public_url", "sandbox_url")
    @classmethod
    def _origin(cls, value: str) -> str:
        if value and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
            raise ValueError("must be a whole URL, for example https://alerts.example.nhs.uk")
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: str) -> str:
        if "://" in value and urlsplit(value).scheme.partition("+")[0] not in ("sqlite", "postgresql", "postgres"):
            raise ValueError("must be a sqlite:/// or postgresql:// URL")
        return value

    @field_validator("secret_key")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and len(value.get_secret_value()) < 32:
            raise ValueError("must have 32 characters or more")
        return value

    @model_validator(mode="after")
    def _providers_are_whole(self) -> "Settings":
        if self.twilio_account_sid and not self.twilio_auth_token.get_secret_value():
            raise ValueError("BROADCASTER_TWILIO_ACCOUNT_SID needs BROADCASTER_TWILIO_AUTH_TOKEN")
        if self.twilio_account_sid and not (self.twilio_messaging_service_sid or self.twilio_sender):
            raise ValueError("give BROADCASTER_TWILIO_MESSAGING_SERVICE_SID or BROADCASTER_TWILIO_SENDER")
        if self.twilio2_sender and not (self.twilio2_account_sid or self.twilio_account_sid):
            raise ValueError("BROADCASTER_TWILIO2_SENDER needs BROADCASTER_TWILIO2_ACCOUNT_SID")
        if self.twilio2_account_sid and not (self.twilio2_sender and self.twilio2_auth_token.get_secret_value()):
            raise ValueError("a second Twilio account needs BROADCASTER_TWILIO2_SENDER and BROADCASTER_TWILIO2_AUTH_TOKEN")
        if self.notify_api_key.get_secret_value():
            if not (self.notify_template_id and self.notify_callback_token.get_secret_value()):
                raise ValueError("Notify needs BROADCASTER_NOTIFY_TEMPLATE_ID and BROADCASTER_NOTIFY_CALLBACK_TOKEN")
            if len(self.notify_api_key.get_secret_value()) < 74:
                raise ValueError("BROADCASTER_NOTIFY_API_KEY must be whole: <name>-<service id>-<secret>")
        if self.providers and not self.public_url.startswith("https://") and not _is_loopback(self.public_url):
            raise ValueError("real providers need BROADCASTER_PUBLIC_URL with https://")
        return self

    @property
    def providers(self) -> tuple[str, ...]:
        """Channels that reach real people."""
        found = [("sms", bool(self.configured_sms_routes)), ("slack", bool(self.slack_token.get_secret_value()))]
        found.append(("push", bool(self.vapid_subject)))
        return tuple(name for name, there in found if there)

    @property
    def configured_sms_routes(self) -> tuple[str, ...]:
        """Those of ``sms_routes`` that are set up, in their order."""
        there = {
            "twilio": bool(self.twilio_account_sid),
            "twilio2": bool(self.twilio2_sender),
            "notify": bool(self.notify_api_key.get_secret_value()),
        }
        return tuple(name for name in self.sms_routes if there[name])

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{(self.data_dir / 'broadcaster.db').absolute()}"

    @property
    def resolved_redis_url(self) -> str:
        """The embedded server listens on a private unix socket, not on a port."""
        return self.redis_url.get_secret_value() or f"redis+socket://{(self.data_dir / 'valkey.sock').absolute()}"

    @property
    def resolved_public_url(self) -> str:
        return self.public_url or f"http://localhost:{self.port}"

    @property
    def resolved_sandbox_url(self) -> str:
        return self.sandbox_url or f"http://127.0.0.1:{self.sandbox_port}"


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
