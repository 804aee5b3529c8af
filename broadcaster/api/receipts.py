"""Callbacks: what providers and our own service worker tell us afterwards. Each is verified by its channel."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from broadcaster.api.deps import get_wiring
from broadcaster.api.problems import responses
from broadcaster.domain.channel import Callback
from broadcaster.domain.errors import TooLarge

router = APIRouter(tags=["receipts"])

_LIMIT = 16 * 1024  # bytes; Twilio's callbacks are below 2 kB


@router.post(
    "/receipts/{channel}",
    status_code=204,
    response_class=Response,
    summary="A provider's or browser's receipt",
    responses=responses(400, 403, 404, 413, 422, 503),
)
async def take_receipt(channel: Annotated[str, Path(pattern=r"^[a-z][a-z0-9_-]{0,31}$")], request: Request) -> Response:
    """Signed by the provider or carrying our own token; anything else is refused. Repeats are harmless."""
    wired = get_wiring(request)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LIMIT:
            raise TooLarge("A receipt is at most 16 kB.")
    # The provider signed the URL it called, which behind a proxy is not the one that arrived here.
    query = f"?{request.url.query}" if request.url.query else ""
    callback = Callback(
        url=f"{wired.settings.resolved_public_url}{request.url.path}{query}",
        headers={name.lower(): value for name, value in request.headers.items()},
        query=dict(request.query_params),
        body=body,
    )
    await wired.receipts.take(channel, callback)
    return Response(status_code=204)
