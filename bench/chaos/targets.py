"""What faults have in common: whom they hit, how long they last, and what is in flight at that moment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from threading import Lock

from bench.chaos.arena import Arena, Fault
from bench.chaos.crew import SHAPES, Place, Worker
from bench.chaos.plan import Planned

#: Seconds that a fault waits for a target that no other fault has.
PATIENCE = 6.0


class NotMade(Exception):
    """There was nothing to do it to; the message says why."""


@contextlib.contextmanager
def a_worker(arena: Arena, fault: Fault, planned: Planned, only: int | None = None) -> Iterator[Worker]:
    """A worker that is up and that no other fault is at, beginning with the planned one."""
    order = [only] if only is not None else [(planned.place + n) % len(SHAPES) for n in range(len(SHAPES))]
    places = [arena.crew.workers[n] for n in order]
    with free(places, lambda place: place.all and place.now.ready) as place:
        worker = place.now
        fault.places, fault.workers = (worker.place,), (worker.id,)
        fault.detail = f"{place.name}, {worker.id}"
        yield worker


@contextlib.contextmanager
def free(places: list[Place], usable: Callable[[Place], bool]) -> Iterator[Place]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for place in places:
            if place.lock.acquire(blocking=False):
                try:
                    if usable(place):
                        yield place
                        return
                finally:
                    place.lock.release()
        time.sleep(0.05)
    raise NotMade("every one that it could hit was down, or another fault's")


@contextlib.contextmanager
def store(arena: Arena, fault: Fault, lock: Lock) -> Iterator[None]:
    if not lock.acquire(timeout=PATIENCE):
        raise NotMade("another fault was at the store all the time")
    try:
        fault.places = tuple(range(len(SHAPES)))
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def struck(arena: Arena, fault: Fault) -> Iterator[None]:
    """The fault begins here, while no worker can claim or settle: the jobs in flight now are those at the fault."""
    with arena.claims_stopped() as held:
        fault.inflight, fault.began = held, time.time()
        yield


def length(planned: Planned, least: float, most: float) -> float:
    return least + planned.long * (most - least)
