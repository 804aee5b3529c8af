"""What routes are given: the wired application and the caller, with the scope that the route asks for."""

import math
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPBearer
from fastapi.security.base import SecurityBase

from broadcaster.domain.errors import Forbidden, NotSignedIn, TooMany
from broadcaster.services.keys import Caller, Scope
from broadcaster.wiring import Wiring

bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="An API key from `broadcaster keys create`.")


def get_wiring(request: Request) -> Wiring:
    return cast(Wiring, request.app.state.wiring)


async def _wiring(request: Request) -> Wiring:  # a plain function would be given a thread for it
    return get_wiring(request)


Wired = Annotated[Wiring, Depends(_wiring)]


class _Requires(SecurityBase):
    """A dependency that answers 401 without a valid key and 403 where the key lacks ``scope``.

    One, not a chain: what FastAPI does for each costs more than what is done in it.
    """

    model, scheme_name = bearer.model, bearer.scheme_name

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __call__(self, request: Request) -> Caller:
        credentials = await bearer(request)
        if credentials is None:
            raise NotSignedIn("Send the header: Authorization: Bearer <API key>. Keys come from `broadcaster keys create`.")
        wired, key = get_wiring(request), credentials.credentials
        caller = wired.keys.recall(key)
        if caller is None:
            caller = await run_in_threadpool(wired.keys.authenticate, key)
        wait = wired.request_rate.wait(caller.uid)
        if wait > 0:
            raise TooMany("This key has made too many requests in the last minute.", retry_after=math.ceil(wait))
        caller.must_have(self._scope)
        return caller


CanSend = Annotated[Caller, Depends(_Requires(Scope.ALERTS_SEND))]
CanReadAlerts = Annotated[Caller, Depends(_Requires(Scope.ALERTS_READ))]
CanReadDirectory = Annotated[Caller, Depends(_Requires(Scope.DIRECTORY_READ))]
CanWriteDirectory = Annotated[Caller, Depends(_Requires(Scope.DIRECTORY_WRITE))]
CanReadMonitors = Annotated[Caller, Depends(_Requires(Scope.MONITORS_READ))]
#: Also with a test key, whose sources reach the sandbox only.
CanWriteSources = Annotated[Caller, Depends(_Requires(Scope.MONITORS_WRITE))]


async def _for_real(caller: CanWriteSources, wired: Wired) -> Caller:
    if caller.test and not wired.sandbox_only:
        raise Forbidden("This changes what real people are told, which a test key may not do. Use a live key.")
    return caller


CanWriteMonitors = Annotated[Caller, Depends(_for_real)]
CanSignal = Annotated[Caller, Depends(_Requires(Scope.SIGNALS_SEND))]
