"""One matrix of answers and faults against every channel: could the provider have taken it?"""

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web

from broadcaster.channels import wire
from broadcaster.channels.endpoints import Allowed
from broadcaster.domain.channel import Channel
from broadcaster.domain.outcomes import Accepted, Ambiguous, Deferred, Outcome, Rejected, Scope, Throttled
from tests.channels.rig import (
    RIGS,
    Provider,
    Rig,
    Seen,
    answering,
    provider,
    push,
    run,
    send,
    send_one,
    slack,
    subscription,
    twilio,
)

rigs = pytest.mark.parametrize("rig", RIGS, ids=lambda rig: rig.name)


def status(code: int, text: str = "<html>no</html>", **headers: str) -> Callable[[Seen], web.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda seen: web.Response(status=code, text=text, content_type="text/html", headers=named)


def reset(seen: Seen) -> web.Response:
    """RST after the request was read."""
    transport: Any = seen.request.transport
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    return web.Response()


def close(seen: Seen) -> web.Response:
    """FIN after the request was read: what a stale kept-alive connection looks like."""
    transport: Any = seen.request.transport
    transport.close()
    return web.Response()


ANSWERS: dict[str, tuple[Callable[[Seen], web.Response], Callable[[Outcome], bool]]] = {
    "500": (status(500), lambda o: isinstance(o, Ambiguous) and o.code == "500"),
    "502": (status(502), lambda o: isinstance(o, Ambiguous)),
    "503 with Retry-After": (status(503, Retry_After="5"), lambda o: isinstance(o, Ambiguous)),
    "504": (status(504, ""), lambda o: isinstance(o, Ambiguous)),
    "429 in seconds": (status(429, Retry_After="7"), lambda o: isinstance(o, Throttled) and o.retry_after == 7),
    "429 as a date": (
        lambda seen: status(429, Retry_After=formatdate(time.time() + 90, usegmt=True))(seen),
        lambda o: isinstance(o, Throttled) and 85 < o.retry_after <= 90,
    ),
    "429 alone": (status(429), lambda o: isinstance(o, Throttled) and 0 < o.retry_after <= 60),
    "401": (status(401), lambda o: isinstance(o, Rejected) and o.scope is Scope.CHANNEL),
    "418": (status(418), lambda o: isinstance(o, Ambiguous) and o.code == "418"),
    "302": (status(302, Location="/elsewhere"), lambda o: isinstance(o, Ambiguous) and o.code == "redirected"),
    "303": (status(303, Location="/elsewhere"), lambda o: isinstance(o, Ambiguous)),
    "307": (status(307, Location="/elsewhere"), lambda o: isinstance(o, Deferred) and o.code == "redirected"),
    "308": (status(308, Location="/elsewhere"), lambda o: isinstance(o, Deferred)),
    "reset": (reset, lambda o: isinstance(o, Ambiguous) and o.code == "disconnected"),
    "closed": (close, lambda o: isinstance(o, Ambiguous) and o.code == "disconnected"),
}


@rigs
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_classified_by_what_may_have_happened(rig: Rig, name: str) -> None:
    respond, expected = ANSWERS[name]

    async def main() -> None:
        async with provider(answering(respond)) as there, rig.open(there.origin) as channel:
            outcome = await send_one(channel, rig.envelope(there.origin))
            assert expected(outcome), outcome
            assert len(there.posts) == 1, "posted again, or followed a redirect"

    run(main())


@rigs
def test_a_yes_is_accepted_with_the_providers_id(rig: Rig) -> None:
    async def main() -> None:
        async with provider(answering(rig.accept)) as there, rig.open(there.origin) as channel:
            outcome = await send_one(channel, rig.envelope(there.origin))
            assert isinstance(outcome, Accepted)
            assert outcome.provider_id

    run(main())


@pytest.mark.parametrize("rig", RIGS[:2], ids=lambda rig: rig.name)
@pytest.mark.parametrize(
    ("text", "kind"),
    [("<html>portal</html>", "text/html"), ("ok", "text/plain"), ("{", "application/json"), ("{}", "application/json")],
)
def test_a_success_that_cannot_be_read_is_ambiguous(rig: Rig, text: str, kind: str) -> None:
    async def main() -> None:
        page = answering(lambda seen: web.Response(text=text, content_type=kind))
        async with provider(page) as there, rig.open(there.origin) as channel:
            outcome = await send_one(channel, rig.envelope(there.origin))
            assert isinstance(outcome, Ambiguous)
            assert outcome.code == "unreadable_answer"
            assert len(there.posts) == 1

    run(main())


@rigs
def test_a_timeout_after_the_write_is_ambiguous_and_nothing_is_posted_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "TOTAL", 0.3)

    async def main() -> None:
        released = asyncio.Event()

        async def hang(seen: Seen) -> web.Response:
            await released.wait()
            return web.Response()

        async with provider(hang) as there, rig.open(there.origin) as channel:
            outcome = await send_one(channel, rig.envelope(there.origin))
            released.set()
            assert isinstance(outcome, Ambiguous)
            assert outcome.code == "timeout"
            assert len(there.posts) == 1

    run(main())


@rigs
def test_an_answer_that_breaks_off_is_ambiguous(rig: Rig) -> None:
    async def main() -> None:
        async def half(seen: Seen) -> web.StreamResponse:
            response = web.StreamResponse(status=400, headers={"Content-Length": "1000", "Content-Type": "application/json"})
            await response.prepare(seen.request)
            await response.write(b'{"code": ')
            assert seen.request.transport is not None
            seen.request.transport.close()
            return response

        async with provider(half) as there, rig.open(there.origin) as channel:
            outcome = await send_one(channel, rig.envelope(there.origin))
            assert isinstance(outcome, Ambiguous)
            assert len(there.posts) == 1

    run(main())


@rigs
def test_a_stale_kept_alive_connection_is_ambiguous(rig: Rig) -> None:
    """The first request keeps the connection; the server closes it on the second without an answer."""

    async def main() -> None:
        def respond(seen: Seen) -> web.Response:
            return rig.accept(seen) if seen.number == 0 else close(seen)

        async with provider(answering(respond)) as there, rig.open(there.origin) as channel:
            assert isinstance(await send_one(channel, rig.envelope(there.origin, 1)), Accepted)
            outcome = await send_one(channel, rig.envelope(there.origin, 2))
            assert isinstance(outcome, Ambiguous)
            assert len(there.posts) == 2

    run(main())


@rigs
def test_a_refused_connection_is_deferred(rig: Rig) -> None:
    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            origin = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with rig.open(origin) as channel:
            outcome = await send_one(channel, rig.envelope(origin))
            assert isinstance(outcome, Deferred)
            assert outcome.code == "connect_failed"

    run(main())


@rigs
def test_a_tls_failure_is_deferred(rig: Rig) -> None:
    async def main() -> None:
        async with provider(answering(rig.accept)) as there:
            origin = there.origin.replace("http://", "https://")
            async with rig.open(origin) as channel:
                outcome = await send_one(channel, rig.envelope(origin))
                assert isinstance(outcome, Deferred), outcome
                assert there.posts == []

    run(main())


@rigs
def test_a_connection_that_takes_too_long_is_deferred(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listening socket with a full backlog: the handshake never ends."""
    monkeypatch.setattr(wire, "CONNECT", 0.2)

    async def main() -> None:
        with socket.socket() as full, socket.socket() as filler, socket.socket() as filler2:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for one in (filler, filler2):
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            origin = f"http://127.0.0.1:{full.getsockname()[1]}"
            async with rig.open(origin) as channel:
                outcome = await send_one(channel, rig.envelope(origin))
                assert isinstance(outcome, Deferred), outcome
                assert outcome.code == "connect_timeout"

    run(main())


@rigs
def test_two_hundred_concurrent_sends_each_get_their_own_answer(rig: Rig) -> None:
    async def main() -> None:
        held: list[asyncio.Event] = []

        async def out_of_order(seen: Seen) -> web.Response:
            """Answers come in reverse order of arrival, in groups."""
            mine = asyncio.Event()
            held.append(mine)
            if len(held) >= 40 or len(there.posts) == 200:
                group, held[:] = list(reversed(held)), []
                for event in group:
                    event.set()
            await mine.wait()
            return rig.accept(seen)

        there: Provider
        async with provider(out_of_order) as there, rig.open(there.origin) as channel:
            envelopes = [rig.envelope(there.origin, n) for n in range(1, 201)]
            found = await send(channel, envelopes)
            assert len(there.posts) == 200
            assert {rig.recipient(seen) for seen in there.posts} == {rig.identity(to.address) for to in envelopes}
            for to in envelopes:
                outcome = found[(to.delivery, to.attempt)]
                assert isinstance(outcome, Accepted)
                assert str(to.delivery) in (outcome.provider_id or "")

    run(main())


@rigs
def test_concurrent_refusals_keep_their_own_retry_after(rig: Rig) -> None:
    """Two answers of 429 in flight together, with different waits: the header is not mixed up."""

    async def main() -> None:
        both = asyncio.Barrier(2)

        async def answer(seen: Seen) -> web.Response:
            await both.wait()
            wait = "11" if rig.recipient(seen) == rig.identity(rig.address(there.origin, 1)) else "22"
            return web.Response(status=429, headers={"Retry-After": wait})

        there: Provider
        async with provider(answer) as there, rig.open(there.origin) as channel:
            found = await send(channel, [rig.envelope(there.origin, 1), rig.envelope(there.origin, 2)])
            waits = [o.retry_after for _, o in sorted(found.items()) if isinstance(o, Throttled)]
            assert waits == [11, 22]

    run(main())


@rigs
def test_after_the_lease_nothing_is_written(rig: Rig) -> None:
    async def main() -> None:
        async with provider(answering(rig.accept)) as there, rig.open(there.origin) as channel:
            late = rig.envelope(there.origin, 1, not_after=wire.boottime() - 0.001)
            outcome = await send_one(channel, late)
            assert isinstance(outcome, Deferred)
            assert outcome.code == "lease_expired"
            assert there.posts == []

    run(main())


@rigs
def test_a_lease_that_ends_while_connecting_is_noticed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is read again between "a connection is there" and "the request is written"."""

    async def main() -> None:
        async with provider(answering(rig.accept)) as there, rig.open(there.origin) as channel:
            start = wire.boottime()
            readings = iter([start])  # the first check passes; then the machine was suspended
            monkeypatch.setattr(wire, "boottime", lambda: next(readings, start + 60))
            outcome = await send_one(channel, rig.envelope(there.origin, 1, not_before=-1.0, not_after=start + 5))
            assert isinstance(outcome, Deferred), outcome
            assert outcome.code == "lease_expired"
            assert there.posts == []

    run(main())


@rigs
def test_a_throttle_stops_the_rest_at_once(rig: Rig) -> None:
    """The first answer is a 429: nothing that waits for its slot is written, and all say what remains of the wait."""

    async def main() -> None:
        throttled = status(429, Retry_After="30")
        async with provider(answering(throttled)) as there, rig.open(there.origin) as channel:
            later = wire.boottime() + 20
            envelopes = [rig.envelope(there.origin, 1)]
            envelopes += [rig.envelope(there.origin, n, not_before=later) for n in range(2, 101)]
            found = await send(channel, envelopes)
            assert len(there.posts) == 1
            assert wire.boottime() < later
            assert all(isinstance(o, Throttled) and 25 < o.retry_after <= 30 for o in found.values())

    run(main())


@rigs
def test_refused_credentials_stop_the_rest_at_once(rig: Rig) -> None:
    async def main() -> None:
        async with provider(answering(status(401))) as there, rig.open(there.origin) as channel:
            later = wire.boottime() + 20
            envelopes = [rig.envelope(there.origin, 1), rig.envelope(there.origin, 2, not_before=later)]
            found = await send(channel, envelopes)
            assert len(there.posts) == 1
            assert {o.scope for o in found.values() if isinstance(o, Rejected)} == {Scope.CHANNEL}

    run(main())


@rigs
def test_nothing_leaves_before_its_slot(rig: Rig) -> None:
    async def main() -> None:
        arrived: list[float] = []

        async def note(seen: Seen) -> web.Response:
            arrived.append(wire.boottime())
            return rig.accept(seen)

        async with provider(note) as there, rig.open(there.origin) as channel:
            slot = wire.boottime() + 0.15
            await send(channel, [rig.envelope(there.origin, 2, not_before=slot), rig.envelope(there.origin, 1)])
            assert rig.recipient(there.posts[0]) == rig.identity(rig.address(there.origin, 1))
            assert arrived[1] >= slot - 0.001

    run(main())


@rigs
def test_a_fault_of_our_own_is_ambiguous_and_logged_without_the_address(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        async with provider(answering(rig.accept)) as there, rig.open(there.origin) as channel:
            to = rig.envelope(there.origin, 1)

            def broken(*_: object, **__: object) -> None:
                raise RuntimeError(f"bug with {to.address}")

            monkeypatch.setattr(channel, "_send" if rig.name != "push" else "_target", broken)
            outcome = await send_one(channel, to)
            assert isinstance(outcome, Ambiguous)
            assert outcome.code == "internal_error"
            logged = capsys.readouterr().out
            assert "send.bug" in logged
            assert to.address not in logged
            assert rig.identity(to.address) not in logged

    run(main())


@pytest.mark.parametrize("make", [twilio, slack])
def test_the_environment_sets_no_proxy(make: Callable[[str], Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    rig = next(rig for rig in RIGS if rig.make is make)

    async def main() -> None:
        async with provider(answering(rig.accept)) as there, rig.open(there.origin) as channel:
            assert isinstance(await send_one(channel, rig.envelope(there.origin)), Accepted)

    run(main())


def test_a_throttled_push_service_does_not_stop_another() -> None:
    async def main() -> None:
        throttled = answering(status(429, Retry_After="30"))
        async with provider(throttled) as slow, provider(answering(RIGS[2].accept)) as there:
            other = there.origin.replace("127.0.0.1", "localhost")
            channel = push(slow.origin, allowed=Allowed(origins=(slow.origin, other)))
            await channel.open()
            later = wire.boottime() + 0.2
            address = subscription(f"{other}/x/2", 2)
            envelopes = [
                RIGS[2].envelope(slow.origin, 1),
                RIGS[2].envelope(other, 2, address=address, not_before=later),
            ]
            found = await send(channel, envelopes)
            await channel.close()
            assert isinstance(found[(1, 1)], Throttled)
            assert isinstance(found[(2, 1)], Accepted)

    run(main())
