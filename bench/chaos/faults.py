"""Which function makes which kind of fault. Each runs in a thread of its own, so that faults overlap."""

from __future__ import annotations

import signal
from collections.abc import Callable

import psycopg
import redis

from bench.chaos import postgresql_faults, redis_faults, worker_faults
from bench.chaos.arena import Arena, Fault
from bench.chaos.plan import Planned
from bench.chaos.targets import NotMade

#: What a fault may meet when another one is at the same store, or when there was nothing to hit.
UNLUCKY = (NotMade, redis.RedisError, OSError, psycopg.Error)

_KINDS: dict[str, Callable[[Arena, Fault, Planned], None]] = {
    "child": worker_faults.child,
    "keeper": worker_faults.keeper,
    "supervisor": worker_faults.stopped_worker(signal.SIGKILL, whole=False),
    "worker": worker_faults.stopped_worker(signal.SIGKILL, whole=True),
    "term": worker_faults.stopped_worker(signal.SIGTERM, whole=False),
    "hup": worker_faults.stopped_worker(signal.SIGHUP, whole=False),
    "freeze": worker_faults.freeze,
    "clock": worker_faults.wrong_clock,
    "network": worker_faults.cut_off,
    "enqueuer": worker_faults.kill_enqueuer,
    "redis-flush": redis_faults.flush,
    "redis-kill": redis_faults.kill,
    "redis-restore": redis_faults.restore,
    "redis-failover": redis_faults.fail_over,
    "redis-pause": redis_faults.pause,
    "redis-freeze": redis_faults.freeze,
    "redis-full": redis_faults.fill_up,
    "keys-lost": redis_faults.lose_keys,
    "postgresql-restart": postgresql_faults.restart,
    "postgresql-terminate": postgresql_faults.terminate,
    "postgresql-readonly": postgresql_faults.read_only,
}


def make(arena: Arena, number: int, planned: Planned) -> Fault:
    """Make one fault, and return when it is over.

    Raises:
        UNLUCKY: every possible target was down, or another fault's.
    """
    fault = Fault(number, planned.kind)
    _KINDS[planned.kind](arena, fault, planned)
    return fault
