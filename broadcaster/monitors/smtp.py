"""A server that takes mail in: does it greet, encrypt and let us sign in? (Whether mail arrives: ``mail_round_trip``.)"""

import time
from collections.abc import Callable
from typing import Final

from pydantic import Field, model_validator

from broadcaster.domain.monitor import Circumstances, Reading
from broadcaster.monitors import fields, findings, oauth, smtp_talk, tls
from broadcaster.monitors.fields import Auth, Security
from broadcaster.monitors.findings import Codes, Trouble, clock, deadline
from broadcaster.monitors.words import seconds

CODES: Final[Codes] = {**findings.WELL, **smtp_talk.CODES, **findings.TOKENS}


class Config(fields.OAuth):
    """One server."""

    host: fields.Host = Field(description="The server.")
    port: fields.Port | None = Field(None, description="Default: 587 for starttls, 465 for tls, 25 for none.")
    security: Security = Field(Security.STARTTLS, description="How the connection is encrypted.")
    auth: Auth = Field(Auth.NONE, description="How we sign in, if we do.")
    username: fields.Line | None = Field(None, description="Whom to sign in as.")
    password: fields.Secret | None = Field(None, description="The password.")
    degraded_after: fields.DegradedAfter = 5.0
    certificate_days: fields.CertificateDays = 14
    ca_certificates: fields.Certificates = None
    allow_cleartext: bool = Field(False, description=fields.ALLOW_CLEARTEXT)

    @model_validator(mode="after")
    def _whole(self) -> "Config":
        fields.check_sign_in("smtp", self.auth, self.security, self.username, self.password, self, self.allow_cleartext)
        return self

    def hidden(self) -> tuple[str, ...]:
        secrets = (self.password, self.oauth_client_secret)
        return (*(s.get_secret_value() for s in secrets if s is not None), self.username or "")


class Smtp:
    """``clock`` gives seconds since the epoch; it is for how long OAuth tokens are good."""

    name: Final = "smtp"
    label: Final = "Sending mail (SMTP)"
    config: Final = Config
    codes: Final = findings.meanings(CODES)

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._tokens = oauth.Tokens(clock)

    async def look(self, config: Config, circumstances: Circumstances) -> Reading:
        try:
            return await self._look(config, circumstances, deadline(circumstances))
        except Trouble as trouble:
            if trouble.code == "auth_refused" and config.auth is Auth.XOAUTH2:
                self._tokens.forget(*oauth.wanted(config))
            return trouble.reading(CODES)

    async def _look(self, config: Config, circumstances: Circumstances, until: float) -> Reading:
        secret = await oauth.secret(self._tokens, config, config.auth, config.password, until)
        began = clock()
        port = config.port or smtp_talk.PORTS[config.security]
        context = tls.context(config.ca_certificates)
        async with smtp_talk.talk(config.host, port, config.security, context, until, config.hidden()) as talk:
            days = talk.certificate_days(circumstances.now)
            if config.auth is not Auth.NONE:
                await talk.sign_in(config.auth, config.username or "", secret, until)
            latency = clock() - began
        return findings.well(
            CODES, f"The server answered in {seconds(latency)}.", latency=latency, degraded_after=config.degraded_after,
            days=days, certificate_days=config.certificate_days,
        )  # fmt: skip
