"""Soft limits: SoftTimeout inside the block, and never anywhere else. Hard ones are the supervisor's."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from queue_app.exceptions import Cancelled, SoftTimeout
from queue_app.worker.child.timeouts import InMainThread, Interrupts, InThreads

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


# cancelled


@pytest.fixture(params=["main thread", "threads"])
def start(request: pytest.FixtureRequest) -> Callable[[set[str]], Any]:
    """Makes interrupts, and a function that runs another in a slot and one beside it that may interrupt: in the main
    thread by a signal, as the keeper sends it."""

    def in_main_thread(cancelled: set[str]) -> Any:
        interrupts = InMainThread(cancelled)

        def both(block: Callable[[], Any], beside: Callable[[], None]) -> Any:
            before = signal.signal(signal.SIGUSR1, lambda *_: beside())
            timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
            try:
                timer.start()
                return block()
            finally:
                timer.join()
                signal.signal(signal.SIGUSR1, before)

        return interrupts, both

    def in_threads(cancelled: set[str]) -> Any:
        interrupts = InThreads(cancelled)

        def both(block: Callable[[], Any], beside: Callable[[], None]) -> Any:
            with ThreadPoolExecutor(1) as pool:
                ended = pool.submit(block)
                time.sleep(0.05)
                beside()
                return ended.result(20)

        return interrupts, both

    return in_main_thread if request.param == "main thread" else in_threads


def test_a_cancelled_block_is_interrupted_once_and_may_clean_up(start: Any) -> None:
    interrupts, both = start(set())
    said: list[str] = []

    def block() -> None:
        interrupts.arm("a", None)
        try:
            try:
                spin(10)
            finally:
                interrupts.cancel("a")  # again, while it cleans up
                spin(0.02)
                said.append("cleaned up")
        finally:
            interrupts.disarm("a")

    with pytest.raises(Cancelled):
        both(block, lambda: interrupts.cancel("a"))
    assert said == ["cleaned up"]
    assert interrupts.interrupted == {"a"}


def test_who_was_cancelled_before_it_began_does_not_begin(start: Any) -> None:
    interrupts, _ = start({"a"})
    with pytest.raises(Cancelled):
        interrupts.arm("a", 5)
    spin(0.02)
    interrupts.arm("b", 5)
    interrupts.disarm("b")


def test_another_job_is_left_alone(start: Any) -> None:
    interrupts, both = start(set())

    def block() -> str:
        interrupts.arm("a", None)
        try:
            spin(0.2)
            return "in peace"
        finally:
            interrupts.disarm("a")

    assert both(block, lambda: interrupts.cancel("b")) == "in peace"
    assert not interrupts.interrupted


def test_a_block_that_has_ended_is_not_interrupted(start: Any) -> None:
    interrupts, both = start(set())

    def block() -> str:
        interrupts.arm("a", 30)
        interrupts.disarm("a")
        spin(0.2)
        return "in peace"

    assert both(block, lambda: interrupts.cancel("a")) == "in peace"


def test_a_cancelled_block_does_not_hear_of_its_time_limit(start: Any) -> None:
    interrupts, both = start(set())
    said: list[str] = []

    def block() -> None:
        interrupts.arm("a", 0.1)
        try:
            try:
                spin(10)
            finally:
                spin(0.2)
                said.append("cleaned up")
        finally:
            interrupts.disarm("a")
            spin(0.05)

    with pytest.raises(Cancelled):
        both(block, lambda: interrupts.cancel("a"))
    assert said == ["cleaned up"]


def test_at_the_edge_cancelled_strikes_inside_or_not_at_all() -> None:
    """Another thread cancels whatever runs, as fast as it can, while blocks begin and end."""
    interrupts = InThreads(set())
    stop = threading.Event()
    late: list[BaseException] = []

    def work() -> int:
        inside = 0
        for n in range(400):
            job_id = str(n)
            try:
                interrupts.arm(job_id, 0.0005 if n % 3 == 0 else None)
                try:
                    spin(0.0002 + n % 5 * 0.0001)
                finally:
                    interrupts.disarm(job_id)
            except (Cancelled, SoftTimeout):
                inside += 1
            try:
                spin(0.0002)
            except BaseException as error:
                late.append(error)
        return inside

    def disturb() -> None:
        while not stop.is_set():
            for job_id in list(interrupts._tokens):
                interrupts.cancel(job_id)
            time.sleep(0.0001)

    disturber = threading.Thread(target=disturb)
    disturber.start()
    with ThreadPoolExecutor(1) as pool:
        inside = pool.submit(work).result(50)
    stop.set()
    disturber.join()
    assert not late and inside > 0
