"""One rate for everybody, evenly spaced, and what is urgent first. On a real Redis."""

import itertools
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


def test_what_many_book_at_once_leaves_one_after_the_other(limiter: RateLimiter, server: redis.Redis) -> None:
    seconds, us = server.time()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: book(limiter, 10, horizon=60), range(20)))
    assert all(isinstance(answer, Granted) for answer in answers)
    booked = server.get("ab:lane:sender")
    assert booked is not None
    assert int(booked) / 1e6 >= seconds + us / 1e6 + 200 / LANE.rate
    for answer in answers:
        assert isinstance(answer, Granted)
        steps = [later - one for one, later in itertools.pairwise(answer.delays)]
        assert steps == pytest.approx([1 / LANE.rate] * 9)


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
    assert 2_000 <= server.pttl(kept) <= 2_500
    server.pexpire(kept, 1)
    time.sleep(0.01)  # it is Redis's clock that ends it
    assert isinstance(book(limiter, 1, horizon=60), Granted)


def test_what_is_urgent_keeps_only_the_lane_that_it_waits_for(limiter: RateLimiter) -> None:
    other = Lane("destination", 1.0, 1)
    assert isinstance(limiter.reserve([[other]] * 3, 0.5), Granted)
    assert isinstance(limiter.reserve([[LANE, other]], 0.4, urgent=True), Booked)
    assert isinstance(book(limiter, 1), Granted)
    assert isinstance(limiter.reserve([[other]], 60), Booked)


def test_a_clock_that_is_set_back_stops_nobody_and_a_provider_that_says_wait_does(
    limiter: RateLimiter, server: redis.Redis
) -> None:
    book(limiter, 1)
    (lane,) = server.keys("*sender")
    server.set(lane, int((time.time() + 3600) * 1e6))
    assert isinstance(book(limiter, 1), Granted)
    limiter.pause(["sender"], 3600)
    assert isinstance(book(limiter, 1), Booked)


def test_each_process_knows_the_same_instants(server: redis.Redis) -> None:
    """Whatever its first answer took to come."""
    server.flushall()
    slow, quick = RateLimiter(server, lambda: 1), RateLimiter(server, lambda: 1)
    slow._ahead = time.monotonic() - time.time() + 0.2  # as after a first answer that took half a second
    for _ in range(50):
        for one in (slow, quick):
            assert isinstance(book(one, 1, horizon=60), Granted)
    assert abs(slow._ahead - quick._ahead) < 0.05
