"""Faults of workers and enqueuers: killed, frozen, told to stop, with a wrong clock, cut off."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil

from bench.chaos import clock
from bench.chaos.arena import Arena, Fault
from bench.chaos.crew import Worker
from bench.chaos.plan import Planned
from bench.chaos.targets import NotMade, a_worker, free, length
from bench.usage import children_titled


def _pids(worker: Worker, word: str) -> list[int]:
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        found = children_titled(worker.pid, f"queue_app {word}")
    if not found:
        raise NotMade(f"the worker had no {word} just then")
    return found


def child(arena: Arena, fault: Fault, planned: Planned) -> None:
    """kill -9 of a child."""
    with a_worker(arena, fault, planned) as worker:
        children = _pids(worker, "child")
        child = children[int(planned.chance * len(children))]
        fault.new_process = True
        with _gone():
            os.kill(child, signal.SIGSTOP)  # so that what it holds is what it held
            fault.inflight = arena.held(by=fault.workers)
            fault.began = fault.ended = time.time()
            os.kill(child, signal.SIGKILL)


@contextlib.contextmanager
def _gone() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        raise NotMade("the process had ended just before") from None


def keeper(arena: Arena, fault: Fault, planned: Planned) -> None:
    """kill -9 of a keeper."""
    with a_worker(arena, fault, planned) as worker, _gone():
        keeper = _pids(worker, "keeper")[0]
        fault.inflight = arena.held(by=fault.workers)
        fault.began = fault.ended = time.time()
        os.kill(keeper, signal.SIGKILL)


def stopped_worker(number: int, *, whole: bool) -> Callable[[Arena, Fault, Planned], None]:
    """A signal to a worker that stands still meanwhile, so that what it holds can be counted."""

    def make_it(arena: Arena, fault: Fault, planned: Planned) -> None:
        with a_worker(arena, fault, planned) as worker:
            fault.new_process = True
            worker.signal_group(signal.SIGSTOP)
            try:
                fault.inflight = arena.held(by=fault.workers)
                fault.began = fault.ended = time.time()
                if whole:
                    worker.signal_group(number)
                else:
                    with _gone():
                        os.kill(worker.pid, number)
            finally:
                worker.signal_group(signal.SIGCONT)

    return make_it


def freeze(arena: Arena, fault: Fault, planned: Planned) -> None:
    """SIGSTOP of a whole worker past its lease, then SIGCONT."""
    with a_worker(arena, fault, planned) as worker:
        fault.began = time.time()
        worker.signal_group(signal.SIGSTOP)
        try:
            fault.inflight = arena.held(by=fault.workers)
            time.sleep(arena.plan.lease + length(planned, 1.5, 4.0))
        finally:
            worker.signal_group(signal.SIGCONT)
            fault.ended = time.time()


def wrong_clock(arena: Arena, fault: Fault, planned: Planned) -> None:
    """A worker's clock is 20 s ahead or behind for a while."""
    with a_worker(arena, fault, planned) as worker:
        offset = 20.0 if planned.chance < 0.5 else -20.0
        fault.detail += f", {offset:+g} s"
        path = arena.crew.clock_of(worker.place)
        fault.began = time.time()
        clock.write(path, offset)
        try:
            time.sleep(length(planned, 2.0, 8.0))
        finally:
            clock.write(path, 0.0)
            fault.ended = time.time()


def cut_off(arena: Arena, fault: Fault, planned: Planned) -> None:
    """The cable between a worker and both stores is cut for a while."""
    if arena.network is None:
        raise NotMade(arena.no_network)
    with a_worker(arena, fault, planned, only=arena.crew.cabled):
        fault.began = time.time()
        arena.network.cut()
        try:
            fault.inflight = arena.held(by=fault.workers)
            time.sleep(length(planned, 1.0, arena.plan.lease + 5.0))
        finally:
            arena.network.mend()
            fault.ended = time.time()


def kill_enqueuer(arena: Arena, fault: Fault, planned: Planned) -> None:
    """kill -9 of an enqueuer."""
    places = arena.crew.enqueuers
    start = planned.place % len(places)
    with free(places[start:] + places[:start], lambda p: p.all and p.now.poll() is None) as place:
        fault.detail = place.name
        fault.began = fault.ended = time.time()
        place.now.kill()
