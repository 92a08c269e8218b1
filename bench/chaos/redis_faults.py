"""Faults of Redis: emptied, killed, frozen, back in time, full, without some of its keys."""

from __future__ import annotations

import time

from bench.chaos.arena import Arena, Fault
from bench.chaos.crew import QUEUES
from bench.chaos.plan import Planned
from bench.chaos.targets import NotMade, length, store, struck
from bench.runtime.processes import ServerUnavailable
from bench.runtime.replicas import replica_of

#: How the names of the keys end that may be deleted.
PARTS = ("ready:*", "body", "due", "levels", "lanes:*")


def flush(arena: Arena, fault: Fault, planned: Planned) -> None:
    """FLUSHALL."""
    with store(arena, fault, arena.redis_lock), struck(arena, fault):
        fault.ended = fault.began
        with arena.client() as client:
            pipe = client.pipeline(transaction=False)  # in one go, so that no worker claims between the two
            pipe.execute_command("CLIENT", "UNPAUSE")
            pipe.flushall()
            pipe.execute()
    fault.rebuilt = arena.wait_for_rebuild(fault.ended)


def kill(arena: Arena, fault: Fault, planned: Planned) -> None:
    """kill -9; it returns empty."""
    server = arena.stores.redis
    with store(arena, fault, arena.redis_lock):
        with struck(arena, fault):
            server.kill()
        time.sleep(length(planned, 0.0, 4.0))
        arena.start(server)
        fault.ended = time.time()
    fault.rebuilt = arena.wait_for_rebuild(fault.ended)


def pause(arena: Arena, fault: Fault, planned: Planned) -> None:
    """CLIENT PAUSE."""
    seconds = length(planned, 1.0, 7.0)
    with store(arena, fault, arena.redis_lock), arena.client() as client:
        client.execute_command("CLIENT", "PAUSE", 2_000, "WRITE")
        fault.inflight = arena.held()
        fault.began = time.time()
        client.execute_command("CLIENT", "PAUSE", int(seconds * 1000), "ALL")
        time.sleep(seconds)
        fault.ended = time.time()


def freeze(arena: Arena, fault: Fault, planned: Planned) -> None:
    """SIGSTOP, then SIGCONT."""
    server = arena.stores.redis
    with store(arena, fault, arena.redis_lock), struck(arena, fault):
        server.pause()
        time.sleep(length(planned, 1.0, 7.0))
        server.resume()
        fault.ended = time.time()


def restore(arena: Arena, fault: Fault, planned: Planned) -> None:
    """kill -9; it returns with the data that it had some seconds before."""
    server = arena.stores.redis
    seconds = length(planned, 1.0, 5.0)
    with store(arena, fault, arena.redis_lock):
        fault.detail = f"{seconds:.1f} s back"
        stale = arena.epochs()
        snapshot = server.save()
        time.sleep(seconds)
        with struck(arena, fault):
            server.kill()
        arena.start(server, snapshot)
        fault.ended = time.time()
        snapshot.unlink()
    fault.rebuilt = arena.wait_for_rebuild(fault.ended, stale)


def fail_over(arena: Arena, fault: Fault, planned: Planned) -> None:
    """kill -9; a replica that had been cut off is promoted at the same address.

    Raises:
        NotMade: this Redis is too old to take over a port.
    """
    seconds = length(planned, 0.0, 2.0)
    with (
        store(arena, fault, arena.redis_lock),
        replica_of(arena.stores.redis, *arena.redis_options, start=arena.start) as replica,
    ):
        fault.detail = f"{seconds:.1f} s behind"
        replica.cut_off()
        stale = arena.epochs()
        time.sleep(seconds)
        with struck(arena, fault):
            try:
                replica.promote()
            except ServerUnavailable as error:
                raise NotMade(str(error)) from None
        fault.ended = time.time()
    fault.rebuilt = arena.wait_for_rebuild(fault.ended, stale)


def fill_up(arena: Arena, fault: Fault, planned: Planned) -> None:
    """`maxmemory` is just above what is used, or below, for a while. Nothing that runs may suffer from it."""
    spare = int(planned.chance * 400_000) - 100_000
    with store(arena, fault, arena.redis_lock):
        fault.detail = f"{spare:+,} bytes"
        fault.began = time.time()
        arena.stores.redis.limit_memory(spare)
        try:
            time.sleep(length(planned, 2.0, 6.0))
        finally:
            arena.stores.redis.limit_memory(None)
            fault.ended = time.time()


def lose_keys(arena: Arena, fault: Fault, planned: Planned) -> None:
    """Some keys of a queue are deleted. No job that runs is among them.

    Raises:
        NotMade: nothing waited just then.
    """
    with store(arena, fault, arena.redis_lock), arena.client() as client:
        found = {
            f"{part} of {queue}": list(client.scan_iter(f"*:{queue}*:{part}", count=1_000))
            for queue in QUEUES
            for part in PARTS
        }
        there = sorted(name for name, keys in found.items() if keys)
        if not there:
            raise NotMade("nothing waited just then")
        fault.detail = there[int(planned.chance * len(there))]
        fault.began = fault.ended = time.time()
        client.delete(*found[fault.detail])
