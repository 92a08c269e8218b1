"""What each kind of fault does. Each runs in a thread of its own, so that faults overlap."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from threading import Lock

import psutil
import psycopg
import redis

from bench.chaos import clock
from bench.chaos.arena import Arena, Fault
from bench.chaos.crew import SHAPES, Place, Worker
from bench.chaos.plan import Planned
from bench.usage import children_titled

#: Seconds that a fault waits for a target that no other fault has.
PATIENCE = 6.0


class NotMade(Exception):
    """There was nothing to do it to; the message says why."""


def make(arena: Arena, number: int, planned: Planned) -> Fault:
    """Make one fault, and return when it is over.

    Raises:
        NotMade: every possible target was down, or another fault's.
    """
    fault = Fault(number, planned.kind)
    _KINDS[planned.kind](arena, fault, planned)
    return fault


# what faults have in common


@contextlib.contextmanager
def _a_worker(arena: Arena, fault: Fault, planned: Planned, only: int | None = None) -> Iterator[Worker]:
    """A worker that is up and that no other fault is at, beginning with the planned one."""
    order = [only] if only is not None else [(planned.place + n) % len(SHAPES) for n in range(len(SHAPES))]
    places = [arena.crew.workers[n] for n in order]
    with _free(places, lambda place: place.all and place.now.ready) as place:
        worker = place.now
        fault.places, fault.workers = (worker.place,), (worker.id,)
        fault.detail = f"{place.name}, {worker.id}"
        yield worker


@contextlib.contextmanager
def _free(places: list[Place], usable: Callable[[Place], bool]) -> Iterator[Place]:
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
def _store(arena: Arena, fault: Fault, lock: Lock) -> Iterator[None]:
    if not lock.acquire(timeout=PATIENCE):
        raise NotMade("another fault was at the store all the time")
    try:
        fault.places = tuple(range(len(SHAPES)))
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _struck(arena: Arena, fault: Fault) -> Iterator[None]:
    """The fault begins here, while nobody can claim or settle: what is in flight now is so at the fault."""
    with arena.claims_stopped() as held:
        fault.inflight, fault.began = held, time.time()
        yield


def _length(planned: Planned, least: float, most: float) -> float:
    return least + planned.long * (most - least)


# workers


def _pids(worker: Worker, word: str) -> list[int]:
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        found = children_titled(worker.pid, f"queue_app {word}")
    if not found:
        raise NotMade(f"the worker had no {word} just then")
    return found


def _child(arena: Arena, fault: Fault, planned: Planned) -> None:
    with _a_worker(arena, fault, planned) as worker:
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


def _keeper(arena: Arena, fault: Fault, planned: Planned) -> None:
    with _a_worker(arena, fault, planned) as worker, _gone():
        keeper = _pids(worker, "keeper")[0]
        fault.inflight = arena.held(by=fault.workers)
        fault.began = fault.ended = time.time()
        os.kill(keeper, signal.SIGKILL)


def _stopped_worker(number: int, *, whole: bool) -> Callable[[Arena, Fault, Planned], None]:
    """A signal to a worker that stands still meanwhile, so that what it holds can be counted."""

    def make_it(arena: Arena, fault: Fault, planned: Planned) -> None:
        with _a_worker(arena, fault, planned) as worker:
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


def _freeze(arena: Arena, fault: Fault, planned: Planned) -> None:
    with _a_worker(arena, fault, planned) as worker:
        fault.began = time.time()
        worker.signal_group(signal.SIGSTOP)
        try:
            fault.inflight = arena.held(by=fault.workers)
            time.sleep(arena.plan.lease + _length(planned, 1.5, 4.0))
        finally:
            worker.signal_group(signal.SIGCONT)
            fault.ended = time.time()


def _clock(arena: Arena, fault: Fault, planned: Planned) -> None:
    with _a_worker(arena, fault, planned) as worker:
        offset = 20.0 if planned.chance < 0.5 else -20.0
        fault.detail += f", {offset:+g} s"
        path = arena.crew.clock_of(worker.place)
        fault.began = time.time()
        clock.write(path, offset)
        try:
            time.sleep(_length(planned, 2.0, 8.0))
        finally:
            clock.write(path, 0.0)
            fault.ended = time.time()


def _network(arena: Arena, fault: Fault, planned: Planned) -> None:
    if arena.network is None:
        raise NotMade(arena.no_network)
    with _a_worker(arena, fault, planned, only=arena.crew.cabled):
        fault.began = time.time()
        arena.network.cut()
        try:
            fault.inflight = arena.held(by=fault.workers)
            time.sleep(_length(planned, 1.0, arena.plan.lease + 5.0))
        finally:
            arena.network.mend()
            fault.ended = time.time()


def _enqueuer(arena: Arena, fault: Fault, planned: Planned) -> None:
    places = arena.crew.enqueuers
    start = planned.place % len(places)
    with _free(places[start:] + places[:start], lambda p: p.all and p.now.poll() is None) as place:
        fault.detail = place.name
        fault.began = fault.ended = time.time()
        place.now.kill()


# stores


def _redis_flush(arena: Arena, fault: Fault, planned: Planned) -> None:
    with _store(arena, fault, arena.redis_lock), _struck(arena, fault):
        fault.ended = fault.began
        with arena.client() as client:
            pipe = client.pipeline(transaction=False)  # in one go: nobody claims between the two
            pipe.execute_command("CLIENT", "UNPAUSE")
            pipe.flushall()
            pipe.execute()
    fault.rebuilt = arena.wait_for_rebuild(fault.ended)


def _redis_kill(arena: Arena, fault: Fault, planned: Planned) -> None:
    server = arena.stores.redis
    with _store(arena, fault, arena.redis_lock):
        with _struck(arena, fault):
            server.kill()
        time.sleep(_length(planned, 0.0, 4.0))
        arena.start(server)
        fault.ended = time.time()
    fault.rebuilt = arena.wait_for_rebuild(fault.ended)


def _redis_pause(arena: Arena, fault: Fault, planned: Planned) -> None:
    seconds = _length(planned, 1.0, 7.0)
    with _store(arena, fault, arena.redis_lock), arena.client() as client:
        client.execute_command("CLIENT", "PAUSE", 2_000, "WRITE")
        fault.inflight = arena.held()
        fault.began = time.time()
        client.execute_command("CLIENT", "PAUSE", int(seconds * 1000), "ALL")
        time.sleep(seconds)
        fault.ended = time.time()


def _redis_freeze(arena: Arena, fault: Fault, planned: Planned) -> None:
    server = arena.stores.redis
    with _store(arena, fault, arena.redis_lock), _struck(arena, fault):
        server.pause()
        time.sleep(_length(planned, 1.0, 7.0))
        server.resume()
        fault.ended = time.time()


def _postgresql_restart(arena: Arena, fault: Fault, planned: Planned) -> None:
    server = arena.stores.postgresql
    with _store(arena, fault, arena.postgresql_lock):
        with _struck(arena, fault):
            os.kill(server.pid, signal.SIGQUIT)
        while server.running:
            time.sleep(0.01)
        time.sleep(_length(planned, 0.0, 3.0))
        server.kill()
        arena.start(server)
        fault.ended = time.time()


def _postgresql_terminate(arena: Arena, fault: Fault, planned: Planned) -> None:
    with _store(arena, fault, arena.postgresql_lock):
        try:
            with arena.stores.connect() as connection, arena.claims_stopped() as held:
                fault.inflight = held
                fault.began = fault.ended = time.time()
                row = connection.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.5"
                ).fetchone()
                fault.detail = f"{row[0] if row else 0} connections"
        except psycopg.Error as error:
            raise NotMade(f"PostgreSQL did not answer ({error})") from None


_KINDS: dict[str, Callable[[Arena, Fault, Planned], None]] = {
    "child": _child,
    "keeper": _keeper,
    "supervisor": _stopped_worker(signal.SIGKILL, whole=False),
    "worker": _stopped_worker(signal.SIGKILL, whole=True),
    "term": _stopped_worker(signal.SIGTERM, whole=False),
    "hup": _stopped_worker(signal.SIGHUP, whole=False),
    "freeze": _freeze,
    "clock": _clock,
    "network": _network,
    "enqueuer": _enqueuer,
    "redis-flush": _redis_flush,
    "redis-kill": _redis_kill,
    "redis-pause": _redis_pause,
    "redis-freeze": _redis_freeze,
    "postgresql-restart": _postgresql_restart,
    "postgresql-terminate": _postgresql_terminate,
}

#: What a fault may meet when another one is at the same store.
UNLUCKY = (redis.RedisError, OSError, psycopg.Error)
