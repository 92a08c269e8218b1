"""Soft limits: SoftTimeout inside the block, and never anywhere else. Hard ones are the supervisor's."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from queue_app.exceptions import SoftTimeout
from queue_app.worker.async_loop import AsyncLoop
from queue_app.worker.timeouts import InMainThread, Interrupts, InThreads
from tests.support.waiting import wait_until

# Not by the signal that these tests are about.
pytestmark = pytest.mark.timeout(60, method="thread")

Limit = Callable[[float], AbstractContextManager[None]]


def limits(interrupts: Interrupts) -> Limit:
    """Blocks that are interrupted when their time is up."""

    @contextmanager
    def limit(seconds: float) -> Iterator[None]:
        interrupts.arm("a job", seconds)
        try:
            yield
        finally:
            interrupts.disarm("a job")

    return limit


def spin(seconds: float) -> None:
    """Work in Python, without a call that waits, until it is interrupted."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@pytest.fixture(params=["main thread", "thread"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[Limit], Any]], Any]:
    """Run a function of a limiter where that limiter works, and return or raise what it does."""
    if request.param == "main thread":
        return lambda func: func(limits(InMainThread(set())))

    def in_thread(func: Callable[[Limit], Any]) -> Any:
        ended: Future[Any] = Future()

        def work() -> None:
            try:
                ended.set_result(func(limits(InThreads(set()))))
            except BaseException as error:
                ended.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return ended.result(20)

    return in_thread


def test_a_block_that_runs_too_long_is_interrupted(run: Any) -> None:
    def block(limit: Limit) -> None:
        with limit(0.05):
            spin(10)

    started = time.monotonic()
    with pytest.raises(SoftTimeout):
        run(block)
    assert time.monotonic() - started < 5


def test_the_task_may_clean_up_and_go_on(run: Any) -> None:
    def block(limit: Limit) -> str:
        with limit(0.02):
            try:
                spin(10)
            except SoftTimeout:
                return "cleaned up"
        return "not interrupted"

    assert run(block) == "cleaned up"


def test_a_block_that_ends_in_time_hears_nothing_later(run: Any) -> None:
    def block(limit: Limit) -> None:
        with limit(0.02):
            pass
        spin(0.06)  # whatever was armed would strike here

    run(block)


@pytest.mark.parametrize("error", [KeyError("x"), SoftTimeout("own")])
def test_what_the_block_raises_comes_through(run: Any, error: Exception) -> None:
    def block(limit: Limit) -> None:
        with limit(5):
            raise error

    with pytest.raises(type(error)) as caught:
        run(block)
    assert caught.value is error


def test_at_the_edge_it_strikes_inside_or_not_at_all(run: Any) -> None:
    def block(limit: Limit) -> int:
        late = 0
        for n in range(150):
            try:
                with limit(0.0005):
                    spin(0.0003 + n % 5 * 0.0001)
            except SoftTimeout:
                pass
            try:
                spin(0.0003)
            except SoftTimeout:
                late += 1
        return late

    assert run(block) == 0


def test_the_main_threads_signal_is_put_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(SoftTimeout), limits(InMainThread(set()))(0.01):
        spin(10)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_threads_have_their_own_limits() -> None:
    timer = InThreads(set())
    ended: dict[str, str] = {}

    def work(name: str, seconds: float, lasts: float) -> None:
        try:
            timer.arm(name, seconds)
            try:
                spin(lasts)
            finally:
                timer.disarm(name)
            ended[name] = "in time"
        except SoftTimeout:
            ended[name] = "interrupted"

    plan = {"a": (0.3, 0.01), "b": (0.02, 10.0), "c": (5.0, 0.05), "d": (0.05, 10.0)}
    threads = [threading.Thread(target=work, args=(name, *times)) for name, times in plan.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert ended == {"a": "in time", "b": "interrupted", "c": "in time", "d": "interrupted"}


def test_limits_that_were_not_reached_leave_nothing_behind() -> None:
    timer = InThreads(set())
    for n in range(2_000):
        timer.arm(str(n), 3_600)
        timer.disarm(str(n))
    assert len(timer._heap) < 200
    assert not timer._armed and not timer._tokens and not timer._fired


# coroutines


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


def test_a_loop_that_was_never_used_stops_too() -> None:
    AsyncLoop().stop()
