"""The parts that configurations are put together from. All of them are flat: one field, one value; secrets are write-only.

A model's errors never repeat what was given (``hide_input_in_errors``): it may be a secret.
"""

import re
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints
from yarl import URL

from broadcaster.monitors import connecting, tls


class Settings(BaseModel):
    """What every kind's configuration is."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Security(StrEnum):
    """How a connection is encrypted: from the start, by STARTTLS, or not at all."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


class Auth(StrEnum):
    """How we sign in."""

    PASSWORD = "password"  # noqa: S105
    XOAUTH2 = "xoauth2"
    NONE = "none"


_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_MAILBOX: Final = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(\.{_LABEL})*")


def _host(value: str) -> str:
    if connecting.is_address(value):
        if connecting.forbidden(value):
            raise ValueError("link-local and cloud metadata addresses are never looked at")
        return value
    if not _NAME.fullmatch(value):
        raise ValueError("must be a host name (internationalised ones as xn--…) or an IP address")
    return value


def _ip(value: str) -> str:
    if not connecting.is_address(value):
        raise ValueError("must be an IP address")
    return value


def _mailbox(value: str) -> str:
    if not _MAILBOX.fullmatch(value):
        raise ValueError("must be a plain mail address")
    return value


def _pem(value: str) -> str:
    if not tls.is_pem(value):
        raise ValueError("must be certificates in PEM form (-----BEGIN CERTIFICATE-----)")
    return value


def _url(value: str) -> str:
    try:
        url = URL(value)
        host, port = url.host, url.port
    except ValueError:
        raise ValueError("must be a URL") from None
    if url.scheme not in ("http", "https") or not host or port is None:
        raise ValueError("must be an http or https URL with a host")
    if url.user is not None or url.password is not None:
        raise ValueError("must hold no user name or password: it is shown to people")
    if not value.isprintable() or " " in value:
        raise ValueError("must hold no spaces or control characters")
    if connecting.is_address(host):
        _host(host)
    return value


def _base(value: str) -> str:
    url = URL(_url(value))
    if url.query_string or url.fragment:
        raise ValueError("must end before any ? or #")
    return value.rstrip("/")


def _one_line(value: SecretStr) -> SecretStr:
    if re.search(r"[\x00\r\n]", value.get_secret_value()):
        raise ValueError("must be one line")
    return value


Host = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=253), AfterValidator(_host)]
IP = Annotated[str, StringConstraints(strip_whitespace=True, min_length=2, max_length=45), AfterValidator(_ip)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Mailbox = Annotated[str, StringConstraints(strip_whitespace=True, max_length=254), AfterValidator(_mailbox)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=4096), AfterValidator(_one_line)]
HttpUrl = Annotated[str, StringConstraints(strip_whitespace=True, min_length=8, max_length=2048), AfterValidator(_url)]
BaseUrl = Annotated[str, StringConstraints(strip_whitespace=True, min_length=8, max_length=512), AfterValidator(_base)]
Certificates = Annotated[
    str | None,
    Field(
        max_length=65_536,
        description="PEM certificates of a private authority to trust besides the system's, or a server's self-signed one.",
    ),
    AfterValidator(lambda value: None if value is None else _pem(value)),
]
CertificateDays = Annotated[
    int, Field(ge=0, le=365, description="Degraded when the server's certificate has fewer days left than this.")
]
DegradedAfter = Annotated[
    float, Field(gt=0, le=600, description="Seconds above which a working service counts as degraded.")
]


class OAuth(Settings):
    """Fields of a sign-in by XOAUTH2 with client credentials (RFC 6749 §4.4), as Exchange Online wants it."""

    oauth_token_url: HttpUrl | None = Field(
        None, description="Where access tokens come from: https://login.microsoftonline.com/<tenant>/oauth2/v2.0/token"
    )
    oauth_client_id: Line | None = Field(None, description="The application's (client) id.")
    oauth_client_secret: Secret | None = Field(None, description="The application's secret.")
    oauth_scope: Line = Field("https://outlook.office365.com/.default", description="What the token is for.")

    def oauth_is_whole(self) -> bool:
        return None not in (self.oauth_token_url, self.oauth_client_id, self.oauth_client_secret)


OAUTH_WANTED: Final = "xoauth2 needs oauth_token_url, oauth_client_id and oauth_client_secret"


def check_sign_in(
    what: str, auth: Auth, security: Security, user: str | None, password: SecretStr | None, oauth: OAuth, clear: bool
) -> None:
    """The rules of signing in. ``what`` begins the sentence: "imap". Raises ValueError."""
    if auth is not Auth.NONE and not user:
        raise ValueError(f"{what}: signing in needs a user name")
    if auth is Auth.PASSWORD and password is None:
        raise ValueError(f"{what}: signing in by password needs a password")
    if auth is Auth.XOAUTH2 and not oauth.oauth_is_whole():
        raise ValueError(f"{what}: {OAUTH_WANTED}")
    if auth is not Auth.NONE and security is Security.NONE and not clear:
        raise ValueError(
            f"{what}: the password would travel unencrypted; choose tls or starttls, or, inside a network of your own, "
            "allow_cleartext"
        )


ALLOW_CLEARTEXT: Final = "Let a password travel unencrypted (security none): only inside a network of your own."
