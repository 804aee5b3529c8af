"""What the pages need of the wired application: a part of ``wiring.Wiring``, so that tests can hand in stand-ins."""

from typing import Any, Protocol, cast

from fastapi import Request

from broadcaster.services.keys import Caller
from broadcaster.services.progress import AlertView, DeliveryView, Sample


class _Settings(Protocol):
    @property
    def timezone(self) -> str: ...
    @property
    def resolved_public_url(self) -> str: ...


class _Keys(Protocol):
    def authenticate(self, key: str) -> Caller: ...
    def by_uid(self, uid: str) -> Caller: ...


class _Alerts(Protocol):
    def cancel(self, uid: str, by: str) -> Any: ...


class _Progress(Protocol):
    def snapshot(self, uid: str) -> AlertView: ...
    def samples(self, uid: str) -> list[Sample]: ...
    def list_alerts(self, cursor: int | None, limit: int) -> tuple[list[AlertView], int | None]: ...
    def reached_people(self, uid: str) -> int: ...
    def deliveries(
        self, uid: str, state: str | None = None, channel: str | None = None, cursor: int | None = None, limit: int = 100
    ) -> tuple[list[DeliveryView], int | None]: ...


class Wired(Protocol):
    """Each part is the service of that name."""

    @property
    def settings(self) -> _Settings: ...
    @property
    def secret(self) -> bytes: ...
    @property
    def sandbox_only(self) -> bool: ...
    @property
    def keys(self) -> _Keys: ...
    @property
    def alerts(self) -> _Alerts: ...
    @property
    def progress(self) -> _Progress: ...


def wired(request: Request) -> Wired:
    return cast(Wired, request.app.state.wiring)
