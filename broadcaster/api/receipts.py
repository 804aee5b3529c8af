"""Callbacks: what providers and our own service worker tell us afterwards. Each is verified by its channel.

In the minutes of a broadcast there are thousands a second, so ``ReceiptLane`` takes them before the router does, whose way
to a route costs twice as much as all that follows.
"""

import re
from typing import Annotated, Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Path, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from broadcaster.api.deps import get_wiring
from broadcaster.api.problems import as_document, responses
from broadcaster.domain.channel import Callback
from broadcaster.domain.errors import TooLarge
from broadcaster.wiring import Wiring

router = APIRouter(tags=["receipts"])

_LIMIT: Final = 16 * 1024  # bytes; Twilio's callbacks are below 2 kB
_CHANNEL: Final = r"[a-z][a-z0-9_-]{0,31}"
_PATH: Final = re.compile(rf"/api/v1/receipts/({_CHANNEL})")


@router.post(
    "/receipts/{channel}",
    status_code=204,
    response_class=Response,
    summary="A provider's or browser's receipt",
    responses=responses(400, 403, 404, 413, 422, 503),
)
async def take_receipt(channel: Annotated[str, Path(pattern=rf"^{_CHANNEL}$")], request: Request) -> Response:
    """Signed by the provider or carrying our own token; anything else is refused. Repeats are harmless."""
    # For the documentation, and for names that are none: ReceiptLane has taken all others.
    return await _take(channel, get_wiring(request), request.scope, request.receive)


class ReceiptLane:
    """ASGI middleware: receipts go the short way, everything else goes on."""

    def __init__(self, app: ASGIApp, wiring: Wiring) -> None:
        self._app = app
        self._wiring = wiring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not (path := _PATH.fullmatch(scope["path"])):
            await self._app(scope, receive, send)
            return
        try:
            response = await _take(path[1], self._wiring, scope, receive)
        except Exception as error:
            problem = as_document(error)
            if problem is None:
                raise
            response = problem
        await response(scope, receive, send)


async def _take(channel: str, wired: Wiring, scope: Scope, receive: Receive) -> Response:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return Response(status_code=400)  # which nobody hears
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _LIMIT:
            raise TooLarge("A receipt is at most 16 kB.")
    # The provider signed the URL it called, which behind a proxy is not the one that arrived here.
    query = scope["query_string"].decode("latin-1")
    callback = Callback(
        url=f"{wired.settings.resolved_public_url}{scope['path']}{'?' if query else ''}{query}",
        headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
        query=dict(parse_qsl(query, keep_blank_values=True)),
        body=body,
    )
    await wired.receipts.take(channel, callback)
    return Response(status_code=204)
