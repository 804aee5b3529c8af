"""One rate for everybody, evenly spaced, and what is urgent first. On a real Redis."""

import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import redis

from broadcaster.cli import embedded
from broadcaster.domain.channel import Lane
from broadcaster.services.ratelimit import Booked, Granted, RateLimiter
from tests.ports import free_port

LANE = Lane("sender", 100.0, 1)


@pytest.fixture(scope="module")
def server() -> Iterator[redis.Redis]:
    port = free_port()
    command = [embedded.redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            break
        time.sleep(0.01)
    client = redis.Redis(port=port)
    yield client
    client.close()
    process.terminate()
    process.wait(10)


@pytest.fixture
def limiter(server: redis.Redis) -> RateLimiter:
    server.flushall()
    return RateLimiter(server, lambda: 1)


def book(limiter: RateLimiter, messages: int, horizon: float = 0.5, *, urgent: bool = False) -> Granted | Booked:
    return limiter.reserve([[LANE]] * messages, horizon, urgent=urgent)


def test_what_many_book_at_once_leaves_one_after_the_other(limiter: RateLimiter) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: (time.monotonic(), book(limiter, 10, horizon=60)), range(20)))
    times = sorted(at + delay for at, answer in answers if isinstance(answer, Granted) for delay in answer.delays)
    assert len(times) == 200
    assert times[-1] - times[0] >= 199 / LANE.rate - 0.05  # the clocks were read some time before the booking


def test_what_is_urgent_is_next_however_many_others_want_the_lane(limiter: RateLimiter) -> None:
    assert isinstance(book(limiter, 100), Granted)  # a second of it
    first = book(limiter, 1, horizon=0.4, urgent=True)
    assert isinstance(first, Booked)
    assert 0.9 < first.wait <= 1.0
    turned_away = book(limiter, 100, horizon=60)  # who would wait for as long as you like
    assert isinstance(turned_away, Booked)
    assert turned_away.wait >= first.wait
    granted = book(limiter, 1, horizon=2.0, urgent=True)
    assert isinstance(granted, Granted)
    assert granted.delays[0] <= first.wait
    assert isinstance(book(limiter, 1, horizon=60), Booked)  # until the urgent one has left


def test_a_lane_that_nobody_urgent_comes_back_to_is_everybodys_again(limiter: RateLimiter, server: redis.Redis) -> None:
    book(limiter, 100)
    book(limiter, 1, horizon=0.4, urgent=True)
    (kept,) = server.keys("*urgent:*")
    assert 1_000 <= server.pttl(kept) <= 1_500
    server.delete(kept)
    assert isinstance(book(limiter, 1, horizon=60), Granted)
