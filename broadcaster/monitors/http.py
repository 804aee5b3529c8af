"""A web page or API: does it answer with the right status and text, fast enough, with a certificate that lasts?"""

from typing import Annotated, Final, Literal

import aiohttp
from pydantic import Field, model_validator
from yarl import URL

from broadcaster.domain.monitor import Circumstances, Reading, Verdict
from broadcaster.monitors import fields, findings, tls, web
from broadcaster.monitors.findings import Code, Codes, Trouble, clock, deadline
from broadcaster.monitors.words import seconds

#: Redirects that are followed, if any are.
MOST_REDIRECTS: Final = 5

#: Whose decoding takes time in proportion to the text. (Python's punycode, for one, takes minutes for 1 MiB.)
CHARSETS: Final = frozenset(
    {"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "iso-8859-15", "utf-16", "utf-16le", "utf-16be"}
    | {f"windows-125{n}" for n in range(9)} | {f"cp125{n}" for n in range(9)}
)  # fmt: skip

CODES: Final[Codes] = {
    **findings.WELL,
    **findings.CONNECTING,
    **findings.TLS,
    "not_http": Code(Verdict.FAILED, "What answers there does not speak HTTP as it should."),
    "too_many_redirects": Code(Verdict.FAILED, "The page redirects again and again."),
    "wrong_status": Code(Verdict.FAILED, "The page answers with a status that it should not have."),
    "text_missing": Code(Verdict.FAILED, "The page lacks text that must be there."),
    "text_unwanted": Code(Verdict.FAILED, "The page has text that must not be there."),
}

Text = Annotated[str, Field(min_length=1, max_length=1000)]


class Config(fields.Settings):
    """One address and what it must answer."""

    url: fields.HttpUrl = Field(description="What to ask for; no user name or password in it.")
    method: Literal["GET", "HEAD"] = Field("GET", description="HEAD asks for no text.")
    statuses: list[Annotated[int, Field(ge=100, le=599)]] = Field(
        default=[200], min_length=1, max_length=50, description="Statuses that are well."
    )
    text: Text | None = Field(None, description="Text that must be there, in the first megabyte.")
    no_text: Text | None = Field(None, description="Text that must not be there, in the first megabyte.")
    follow_redirects: bool = Field(
        False, description="Follow up to 5 redirects and judge where they end; else a redirect is judged by its status."
    )
    degraded_after: fields.DegradedAfter = 5.0
    certificate_days: fields.CertificateDays = 14
    ca_certificates: fields.Certificates = None

    @model_validator(mode="after")
    def _whole(self) -> "Config":
        if self.method == "HEAD" and (self.text or self.no_text):
            raise ValueError("HEAD gives no text to look at; choose GET")
        return self


class Http:
    """Kind. Knows no state."""

    name: Final = "http"
    label: Final = "A web page (HTTP)"
    config: Final = Config
    codes: Final = findings.meanings(CODES)

    async def look(self, config: Config, circumstances: Circumstances) -> Reading:
        try:
            return await _look(config, circumstances.now, deadline(circumstances))
        except Trouble as trouble:
            return trouble.reading(CODES)


async def _look(config: Config, now: float, until: float) -> Reading:
    began = clock()
    redirects = MOST_REDIRECTS if config.follow_redirects else 0
    async with web.Client(config.ca_certificates) as client, web.at("request", client, until):
        async with client.request(config.method, str(URL(config.url)), redirects=redirects) as response:
            if response.status not in config.statuses:
                raise Trouble(
                    "wrong_status",
                    f"The page answers with status {response.status}.",
                    detail={"http_status": response.status},
                )
            if config.text or config.no_text:
                _check(config, await _text(response))
        latency = clock() - began
        certificate = client.certificate
    return findings.well(
        CODES, f"The page answered in {seconds(latency)}.", latency=latency, degraded_after=config.degraded_after,
        days=tls.days_left(certificate, now) if certificate else None, certificate_days=config.certificate_days,
        detail={"http_status": response.status},
    )  # fmt: skip


def _check(config: Config, text: str) -> None:
    if config.text and config.text not in text:
        raise Trouble("text_missing")
    if config.no_text and config.no_text in text:
        raise Trouble("text_unwanted")


async def _text(response: aiohttp.ClientResponse) -> str:
    raw = await web.body(response)
    named = (response.charset or "utf-8").lower()
    return raw.decode(named if named in CHARSETS else "utf-8", "replace")
