"""Who is signed in to the console: a signed cookie or link that names an API key, and where a form may come from.

Nothing is stored: the key itself is looked up on every request, so revoking it ends its sessions at once.
"""

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from itsdangerous import BadSignature, TimestampSigner, URLSafeTimedSerializer

from broadcaster.console.wired import Wired, wired
from broadcaster.domain.errors import NotSignedIn
from broadcaster.services.keys import Caller, Scope

SESSION_SECONDS: Final = 12 * 3600  # one long shift
LINK_SECONDS: Final = 600
HOME: Final = "/console/alerts"
_OURS: Final = re.compile(r"/console(/[\w.~-]+)*/?(\?[\w.~=&-]*)?", re.ASCII)


def caller(request: Request) -> Caller:
    """Whoever this request's cookie names. Raises NotSignedIn, and Forbidden where the key may not read alerts."""
    wiring = wired(request)
    cookie = request.cookies.get(cookie_name(wiring), "")
    try:
        uid = TimestampSigner(wiring.secret, salt="session").unsign(cookie, max_age=SESSION_SECONDS).decode()
    except BadSignature:
        raise NotSignedIn("Sign in to see this page.") from None
    return known(wiring, uid)


SignedIn = Annotated[Caller, Depends(caller)]


def known(wiring: Wired, uid: str) -> Caller:
    """The API key behind ``uid``, if it still holds. Raises as ``caller``."""
    found = wiring.keys.by_uid(uid)
    found.must_have(Scope.ALERTS_READ)
    return found


def from_link(wiring: Wired, token: str) -> Caller:
    """Whoever a sign-in link names. Raises NotSignedIn once it is ten minutes old."""
    try:
        uid = URLSafeTimedSerializer(wiring.secret, salt="enter").loads(token, max_age=LINK_SECONDS)
    except BadSignature:
        raise NotSignedIn("This sign-in link does not work, or is more than 10 minutes old.") from None
    return known(wiring, str(uid))


def start(response: Response, wiring: Wired, uid: str) -> None:
    """Sets the cookie. ``__Host-`` binds it to this host, where browsers let us (https)."""
    value = TimestampSigner(wiring.secret, salt="session").sign(uid).decode()
    response.set_cookie(
        cookie_name(wiring), value, SESSION_SECONDS, path="/", secure=_https(wiring), httponly=True, samesite="strict"
    )


def end(response: Response, wiring: Wired) -> None:
    response.delete_cookie(cookie_name(wiring), path="/", secure=_https(wiring), httponly=True, samesite="strict")


def cookie_name(wiring: Wired) -> str:
    return "__Host-broadcaster" if _https(wiring) else "broadcaster"


def next_page(given: str) -> str:
    """``given`` if it is one of the console's own pages, else its first. Whole URLs never pass."""
    return given if _OURS.fullmatch(given) and ".." not in given else HOME


def is_own_form(request: Request) -> bool:
    """Whether a POST came from our own pages: what a forged form on another site cannot claim.

    Browsers send Sec-Fetch-Site on https and localhost, and Origin on every POST; one of them has to be there.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = urlsplit(request.headers.get("origin", ""))
    public = urlsplit(wired(request).settings.resolved_public_url)
    if origin.scheme and (origin.scheme, origin.netloc) == (public.scheme, public.netloc):
        return True
    return origin.scheme in ("http", "https") and origin.netloc == request.headers.get("host")


def _https(wiring: Wired) -> bool:
    return wiring.settings.resolved_public_url.startswith("https://")
