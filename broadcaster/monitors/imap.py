"""A server that mailboxes are read from: does it greet, encrypt, let us sign in and open a folder?"""

import time
from collections.abc import Callable
from typing import Final

from pydantic import Field, model_validator

from broadcaster.domain.monitor import Circumstances, Reading
from broadcaster.monitors import fields, findings, imap_talk, oauth, tls
from broadcaster.monitors.fields import Auth, Security
from broadcaster.monitors.findings import Codes, Trouble, clock, deadline
from broadcaster.monitors.words import seconds

CODES: Final[Codes] = {**findings.WELL, **imap_talk.CODES, **findings.TOKENS}


class Config(fields.OAuth):
    """One server and, if we sign in, one folder."""

    host: fields.Host = Field(description="The server.")
    port: fields.Port | None = Field(None, description="Default: 993 for tls, else 143.")
    security: Security = Field(Security.TLS, description="How the connection is encrypted.")
    auth: Auth = Field(Auth.PASSWORD, description="How we sign in; none looks at greeting and encryption only.")
    username: fields.Line | None = Field(None, description="Whom to sign in as.")
    password: fields.Secret | None = Field(None, description="The password.")
    folder: fields.Line = Field("INBOX", description="The folder to open, as the server spells it.")
    degraded_after: fields.DegradedAfter = 5.0
    certificate_days: fields.CertificateDays = 14
    ca_certificates: fields.Certificates = None
    allow_cleartext: bool = Field(False, description=fields.ALLOW_CLEARTEXT)

    @model_validator(mode="after")
    def _whole(self) -> "Config":
        fields.check_sign_in("imap", self.auth, self.security, self.username, self.password, self, self.allow_cleartext)
        return self

    def hidden(self) -> tuple[str, ...]:
        secrets = (self.password, self.oauth_client_secret)
        return (*(s.get_secret_value() for s in secrets if s is not None), self.username or "")


class Imap:
    """``clock`` gives seconds since the epoch; it is for how long OAuth tokens are good."""

    name: Final = "imap"
    label: Final = "Reading mail (IMAP)"
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
        port = config.port or imap_talk.PORTS[config.security]
        context = tls.context(config.ca_certificates)
        detail = {}
        async with imap_talk.talk(config.host, port, config.security, context, until, config.hidden()) as talk:
            days = talk.certificate_days(circumstances.now)
            if config.auth is not Auth.NONE:
                await talk.sign_in(config.auth, config.username or "", secret, until)
                detail["messages"] = await talk.select(config.folder, until)
            latency = clock() - began
        return findings.well(
            CODES, f"The server answered in {seconds(latency)}.", latency=latency, degraded_after=config.degraded_after,
            days=days, certificate_days=config.certificate_days, detail=detail,
        )  # fmt: skip
