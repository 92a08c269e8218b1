"""Epochs: which data Redis has, and whether they are complete. Each shard has one.

An epoch begins when the leader has dropped the stale data. It names the life of the server process that holds the data
(its run_id). Every script that hands out or takes jobs compares it with the server at the other end of its connection.
The data are lost when the epoch is missing: after FLUSHALL, or a restart without data. They are lost as well when it
names another life. A server that was restarted from a snapshot, or a replica that was promoted, may have gone back in
time. An epoch also says when it began, by the clock of Redis. Redis does not know whether jobs made before that were
pushed. An epoch goes through three phases:

    closed   stale data were dropped: new jobs are pushed, living keepers announce what they run, nothing is claimed
    filling  claims go on, while all that waits is put back from the record
    whole    Redis has all that it should have

Some servers hide their run_id, or show another one on each connection (proxies). There `-` and a counter of writes take
its place. Each epoch counts anew. In an epoch the counter may never fall below what a worker has seen in it,
and no epoch may come back after another. A loss can remain unnoticed there if only the writes of the last second are
lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import redis

from queue_app.dispatch import keys, scripts
from queue_app.dispatch.connection import ServerFacts, fresh

#: The place of the run_id where none can be used.
UNNAMED = "-"

CLOSED, FILLING, WHOLE = "closed", "filling", "whole"


class Epoch(NamedTuple):
    """The data of a shard.

    Attributes:
        lost: they are missing, or of another life of the server.
        life: run_id of the server that they are of, or `UNNAMED`; empty when there are none.
        name: unique.
        phase: `closed`, `filling` or `whole`.
        writes: how many were counted, where the life is unnamed.
    """

    lost: bool
    life: str = ""
    name: str = ""
    phase: str = ""
    writes: int = 0

    @property
    def is_open(self) -> bool:
        """Whether jobs may be claimed."""
        return not self.lost and self.phase != CLOSED


def read(client: redis.Redis, shards: Iterable[str] | None = None) -> dict[str, Epoch]:
    """The epochs of these shards, or of all; one round trip."""
    names = keys.shards() if shards is None else list(shards)
    server, answers = scripts.ask(client, *commands(names))
    return understood(names, server, answers)


def commands(shards: list[str]) -> list[tuple[str, str, str]]:
    """The commands that ask for the epochs of these shards, for callers that ask something else as well."""
    return [("MGET", keys.epoch(shard), keys.epoch(shard) + ":count") for shard in shards]


def understood(shards: list[str], server: ServerFacts, answers: list[list[str | None]]) -> dict[str, Epoch]:
    """The answers to `commands`."""
    found: dict[str, Epoch] = {}
    for shard, (text, count) in zip(shards, answers, strict=True):
        life, _, rest = (text or "").partition("|")
        name, _, rest = rest.partition("|")
        phase = rest.rpartition("|")[2]
        lost = text is None or not (life in (UNNAMED, server.run_id) or not server.run_id)
        found[shard] = Epoch(lost, life, name, phase, int(count or 0))
    return found


def all_open(client: redis.Redis) -> bool:
    """Whether jobs of every shard may be claimed. If not, Redis has lost its data or gone back in time."""
    return all(epoch.is_open for epoch in read(client).values())


def drop(client: redis.Redis, queues: list[str]) -> int | None:
    """Remove the stale data of these queues; one round trip.

    Returns:
        How many jobs there were; None when the data are not stale: another process has begun an epoch meanwhile.
    """
    calls = [([keys.epoch_of(queue)], [keys.base(queue)]) for queue in queues]
    found = scripts.many(client, scripts.drop, calls)
    return None if -1 in found else sum(found)


def drop_unreachable(client: redis.Redis, shard: str, cursor: int) -> tuple[int, bool]:
    """Remove stale keys that `drop` cannot find, because the keys that lead to them are gone, among the next thousands
    of the server's keys.

    Args:
        cursor: where to go on; 0: from the beginning.

    Returns:
        Where to go on (0: that was all), and whether the data are still stale.
    """
    cursor, found = client.scan(cursor, match=keys.all_of_shard(shard), count=5_000)
    by_queue: dict[str, list[str]] = {}
    for key in map(str, found):
        queue, kind = keys.parts_of(key)
        if kind in ("lanes", "ready", "held", "unknown"):
            by_queue.setdefault(queue, []).append(key)
    calls = [([keys.epoch(shard)], [keys.base(queue), *names]) for queue, names in by_queue.items()]
    return int(cursor), -1 not in scripts.many(client, scripts.drop, calls)


def begin(client: redis.Redis, shard: str, name: str, life: str) -> bool:
    """Begin an epoch, whose stale data were dropped. Returns whether this call did."""
    return _enter(client, shard, CLOSED, name, life)


def open_claims(client: redis.Redis, shard: str, epoch: Epoch) -> bool:
    """Open the claims, after living workers have announced what they run. Returns whether this call did."""
    return _enter(client, shard, FILLING, epoch.name)


def complete(client: redis.Redis, shard: str, epoch: Epoch) -> bool:
    """Declare the data complete, after all waiting jobs were put back. Returns whether this call did."""
    return _enter(client, shard, WHOLE, epoch.name)


def end(client: redis.Redis, shard: str, epoch: Epoch) -> bool:
    """Declare all data lost, because part of them is gone. Returns whether this call did."""
    return _enter(client, shard, "lost", epoch.name)


def bind(client: redis.Redis, shard: str, epoch: Epoch, life: str) -> bool:
    """Give an epoch without a life that of the server, which is known by now. Nothing else changes.

    Returns:
        Whether this call did; not if its connection leads to another server.
    """
    return bool(scripts.bind(client, [keys.epoch(shard)], [epoch.name, life]))


def _enter(client: redis.Redis, shard: str, phase: str, name: str, life: str = "") -> bool:
    return bool(scripts.epoch(client, [keys.epoch(shard), keys.announced(shard)], [phase, name, life]))


def announce(client: redis.Redis, shard: str, name: str, worker_id: str) -> None:
    """Record that a worker has announced what it runs of this shard, in the epoch of this name. Works also when Redis
    is full. `workers.remove` deletes the record."""
    scripts.announce(client, [keys.epoch(shard), keys.announced(shard)], [name, worker_id])


def announced(client: redis.Redis, shard: str, name: str) -> set[str]:
    """The workers that have announced what they run, in the epoch of this name."""
    found = client.hgetall(keys.announced(shard))
    return {str(worker_id) for worker_id, of in found.items() if str(of) == name}


def life_of_server(client: redis.Redis) -> str:
    """The server's run_id as three new connections see it; `UNNAMED` where it is hidden, or differs."""
    lives = {fresh(client).run_id for _ in range(3)}
    return lives.pop() if len(lives) == 1 and "" not in lives else UNNAMED


def drop_old_keys(client: redis.Redis, cursor: int) -> tuple[int, int]:
    """Remove keys of an older layout among the next thousand keys of the server.

    Args:
        cursor: where to go on; 0: from the beginning.

    Returns:
        Where to go on (0: that was all), and how many were removed.
    """
    cursor, found = client.scan(cursor, match=keys.all_of_prefix(), count=1_000)
    old = [str(key) for key in found if not keys.is_of_this_layout(str(key))]
    if not cursor:
        old += [name for name in keys.of_older_layouts() if client.exists(name)]
    if old:
        client.unlink(*old)
    return int(cursor), len(old)
