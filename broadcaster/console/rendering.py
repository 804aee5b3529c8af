"""From a template to an answer: the NHS design system's templates, the security headers, and errors as pages."""

import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import ChainableUndefined, ChoiceLoader, Environment, PackageLoader

from broadcaster.console import assets, sessions
from broadcaster.console.wired import wired
from broadcaster.domain.errors import Forbidden, NotFound, NotSignedIn, Problem

#: Nothing from another host, nothing inline but the design system's one line (by its nonce), nobody may frame us.
POLICY: Final = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with that, browsers write "Origin: null" on our own forms, which is what forged ones look like.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}

_PAGES: Final = Environment(
    loader=ChoiceLoader([PackageLoader("broadcaster.console"), PackageLoader("nhsuk_frontend_jinja")]),
    autoescape=True,
    undefined=ChainableUndefined,  # what the design system's templates are written for
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """``template`` with ``values``, and the headers that every page has."""
    nonce = secrets.token_urlsafe(16)
    common = {"cspNonce": nonce, "vendor": assets.installed(), "sandbox_only": wired(request).sandbox_only}
    html = _PAGES.get_template(template).render({**common, **values})
    return HTMLResponse(html, status, {**HEADERS, "Content-Security-Policy": POLICY.format(nonce=nonce)})


def part(name: str, *values: Any, of: str = "parts.html") -> str:
    """One of the macros of the template ``of``: a piece of a page, for the live stream."""
    return str(getattr(_PAGES.get_template(of).module, name)(*values))


def redirect(to: str) -> RedirectResponse:
    """See other, never kept by a cache."""
    return RedirectResponse(to, 303, HEADERS)


class PageRoute(APIRoute):
    """A route for people: a problem becomes a page, or the way to the sign-in page. POSTs must come from our own forms."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                if request.method == "POST" and not sessions.is_own_form(request):
                    raise Forbidden("This form was not sent from the console's own page. Open the page and try again.")
                return await answer(request)
            except NotSignedIn as problem:
                return _to_sign_in(request, problem)
            except Problem as problem:
                return page(request, "problem.html", problem.status, title=problem.title, detail=problem.detail)
            except RequestValidationError:
                detail = "Check the address, or go back to the list of alerts."
                return page(request, "problem.html", 404, title=NotFound.title, detail=detail)

        return handler


def _to_sign_in(request: Request, problem: NotSignedIn) -> Response:
    if request.url.path.endswith("/stream"):
        return PlainTextResponse(problem.detail, 401, HEADERS)
    if "/console/enter/" in request.url.path:
        return page(request, "sign-in.html", 401, error=problem.detail, about_link=True, next=sessions.HOME)
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return redirect(f"/console/sign-in?{urlencode({'next': sessions.next_page(here)})}")
