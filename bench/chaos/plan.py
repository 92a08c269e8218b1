"""Which fault when: all of it comes from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

#: Kind → how often it comes in one round of faults, and what it does.
KINDS: dict[str, tuple[int, str]] = {
    "child": (3, "kill -9 of a child"),
    "keeper": (1, "kill -9 of a keeper"),
    "supervisor": (1, "kill -9 of a supervisor"),
    "worker": (2, "kill -9 of a whole worker"),
    "freeze": (2, "SIGSTOP of a worker past the lease, then SIGCONT"),
    "term": (1, "SIGTERM to a worker"),
    "hup": (1, "SIGHUP to a worker: its children are replaced"),
    "clock": (2, "a worker's clock is 20 s off for a while"),
    "network": (2, "the network between a worker and both stores is cut for a while"),
    "enqueuer": (1, "kill -9 of an enqueuer"),
    "redis-flush": (2, "FLUSHALL"),
    "redis-kill": (2, "kill -9 of Redis; it returns empty"),
    "redis-restore": (2, "kill -9 of Redis; it returns with older data"),
    "redis-failover": (2, "kill -9 of Redis; a replica that lags is promoted"),
    "redis-pause": (1, "CLIENT PAUSE"),
    "redis-freeze": (1, "SIGSTOP of Redis, then SIGCONT"),
    "redis-full": (1, "Redis at maxmemory for a while"),
    "keys-lost": (1, "some keys of a queue are deleted"),
    "postgresql-restart": (2, "immediate shutdown of PostgreSQL, and restart"),
    "postgresql-terminate": (2, "pg_terminate_backend of half the connections"),
    "postgresql-readonly": (2, "PostgreSQL refuses writes for a while"),
}


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault to come.

    Attributes:
        at: seconds after the start.
        place: the worker or enqueuer that it would like to hit.
        long: how long it lasts, 0…1 of what its kind allows.
        chance: one more random number, 0…1, for what the kind has to choose.
    """

    at: float
    kind: str
    place: int
    long: float
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run.

    Attributes:
        seconds: length of the part with faults.
        every: seconds between the beginnings of two faults, on average.
        rate: jobs that the enqueuers try to enqueue in a second, all together; they roll back some two in five.
        settle: seconds after the last fault that may pass without progress until everything has settled.
        enqueuers: how many processes enqueue.
        lease: the setting LEASE of the workers.
    """

    seconds: float = 120.0
    seed: int = 1
    every: float = 2.5
    rate: float = 400.0
    settle: float = 90.0
    enqueuers: int = 3
    lease: float = 3.0
    kinds: tuple[str, ...] = tuple(KINDS)

    def faults(self) -> list[Planned]:
        """The faults in the order of their times: first one of each kind, then round after round."""
        dice = random.Random(self.seed)
        result = []
        deck: list[str] = []
        first, at = True, 2.0
        while at < self.seconds:
            if not deck:
                deck = [kind for kind in self.kinds for _ in range(1 if first else KINDS[kind][0])]
                dice.shuffle(deck)
                first = False
            result.append(Planned(round(at, 2), deck.pop(), dice.randrange(60), dice.random(), dice.random()))
            at += self.every * dice.uniform(0.3, 1.7)
        return result
