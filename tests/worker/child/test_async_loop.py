"""Coroutines on the loop that the slots of a child share: their limits, and cancelling them."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bench.runtime.waiting import wait_until
from queue_app.exceptions import Cancelled, SoftTimeout
from queue_app.worker.child.async_loop import AsyncLoop

# Not by the signal that these tests are about.
pytestmark = pytest.mark.timeout(60, method="thread")


@pytest.fixture
def loop() -> Any:
    loop = AsyncLoop()
    yield loop
    loop.stop()


async def nap(seconds: float, value: Any = None) -> Any:
    await asyncio.sleep(seconds)
    return value


async def own_timeout() -> None:
    async with asyncio.timeout(0.001):
        await asyncio.sleep(10)


async def raises(error: BaseException) -> None:
    raise error


def test_a_coroutine_is_run_and_answers(loop: AsyncLoop) -> None:
    assert loop.run(nap, [0, "x"], {}, None) == "x"
    assert loop.run(nap, [0], {"value": 5}, 10) == 5
    with pytest.raises(KeyError):
        loop.run(raises, [KeyError()], {}, None)


def test_a_coroutine_that_runs_too_long_is_cancelled(loop: AsyncLoop) -> None:
    with pytest.raises(SoftTimeout):
        loop.run(nap, [10], {}, 0.02)


def test_a_time_out_of_the_tasks_own_is_its_own(loop: AsyncLoop) -> None:
    with pytest.raises(TimeoutError):
        loop.run(own_timeout, [], {}, 5)


def test_coroutines_of_several_slots_share_the_loop(loop: AsyncLoop) -> None:
    """Each waits for the next one: were they run one after the other, none would end."""
    events: list[asyncio.Event] = []

    async def meet(number: int, of: int) -> int:
        while len(events) < of:
            if len(events) == number:
                events.append(asyncio.Event())
            await asyncio.sleep(0.001)
        events[(number + 1) % of].set()
        await events[number].wait()
        return number

    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(loop.run(meet, [n, 3], {}, 20)), daemon=True)
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) == 3, 20)
    assert sorted(answers) == [0, 1, 2]


def test_a_cancelled_coroutine_cleans_up_first() -> None:
    cancelled: set[str] = set()
    loop = AsyncLoop(cancelled)
    said: list[str] = []

    async def work(name: str) -> str:
        try:
            said.append("begun")
            await asyncio.sleep(0.3 if name == "b" else 30)
            return "in peace"
        finally:
            await asyncio.sleep(0)
            said.append(f"{name} ended")

    with ThreadPoolExecutor(2) as pool:
        a = pool.submit(loop.run, work, ["a"], {}, 60, "a")
        b = pool.submit(loop.run, work, ["b"], {}, None, "b")
        wait_until(lambda: said.count("begun") == 2, 20)
        cancelled.add("a")
        loop.cancel("a")
        with pytest.raises(Cancelled):
            a.result(20)
        assert "a ended" in said
        assert b.result(20) == "in peace"
    with pytest.raises(Cancelled):
        loop.run(work, ["a"], {}, None, "a")
    assert said.count("begun") == 2, "who was cancelled before it began does not begin"
    loop.stop()


def test_a_coroutine_that_cancels_itself_was_not_cancelled_by_anybody(loop: AsyncLoop) -> None:
    with pytest.raises(BaseException) as caught:
        loop.run(raises, [asyncio.CancelledError()], {}, None, "a")
    assert not isinstance(caught.value, Cancelled)


def test_a_loop_that_was_never_used_stops_too() -> None:
    AsyncLoop().stop()
