"""The workers that Redis knows: heartbeats, the holders of their children, and the leader of the duties."""

from __future__ import annotations

from typing import NamedTuple

import redis

from queue_app.dispatch import keys


class Listed(NamedTuple):
    """A worker as Redis lists it.

    Attributes:
        beat: epoch seconds of the last heartbeat, on the clock of Redis; 0 where there is none.
        queues: the queues that it serves.
        holders: the names under which its children hold jobs.
    """

    id: str
    beat: float
    queues: list[str]
    holders: list[str]


def holder(worker_id: str, serial: int) -> str:
    """The name under which a child holds jobs. The serial is never used twice by a worker: what a dead child held
    must not be mistaken for what its successor holds."""
    return f"{worker_id}.{serial}"


def now(client: redis.Redis) -> float:
    """The time on the clock of Redis, epoch seconds."""
    seconds, micros = client.time()
    return seconds + micros / 1_000_000


def enlist(client: redis.Redis, holder_name: str) -> None:
    """Make a holder known. A child does so before its first claim, so that no claim of its can be overlooked."""
    client.sadd(keys.holders(), holder_name)


def discharge(client: redis.Redis, holder_name: str) -> None:
    """Forget a holder; what it held must have been taken back before."""
    client.srem(keys.holders(), holder_name)


def beat(client: redis.Redis, worker_id: str, holders: list[str], queues: list[str]) -> None:
    """List a worker, or renew its heartbeat: the lease of all that its children hold."""
    pipe = client.pipeline(transaction=True)
    pipe.hset(keys.workers(), worker_id, f"{now(client)!r}|{','.join(queues)}")
    if holders:
        pipe.sadd(keys.holders(), *holders)
    pipe.execute()


def remove(client: redis.Redis, worker_id: str) -> None:
    """Strike a worker off; what its children held must have been taken back before."""
    client.hdel(keys.workers(), worker_id)


def listed(client: redis.Redis) -> list[Listed]:
    """All workers that were not struck off, dead ones included, and those of whom only a holder is left."""
    pipe = client.pipeline(transaction=True)
    pipe.hgetall(keys.workers())
    pipe.smembers(keys.holders())
    beats, names = pipe.execute()
    holders: dict[str, list[str]] = {worker_id: [] for worker_id in beats}
    for name in sorted(names):
        holders.setdefault(name.rpartition(".")[0], []).append(name)
    result = []
    for worker_id, held_as in holders.items():
        beat_at, _, served = beats.get(worker_id, "0|").partition("|")
        result.append(Listed(worker_id, float(beat_at), served.split(",") if served else [], held_as))
    return result


def held(client: redis.Redis, queue: str, holder_name: str) -> dict[str, tuple[float, str]]:
    """What a child holds of a queue: id → (claimed at in epoch seconds, body)."""
    result = {}
    for job_id, value in client.hgetall(keys.held(queue, holder_name)).items():
        stamp, _, raw = value.partition("|")
        result[job_id] = (float(stamp) / 1000, raw)
    return result


def lead(client: redis.Redis, worker_id: str, lease: float) -> bool:
    """Be, or stay, the leader for `lease` seconds.

    Returns:
        Whether this worker is the leader now.
    """
    name = keys.leader()
    if client.set(name, worker_id, nx=True, px=int(lease * 1000)):
        client.incr(keys.fence())
        return True
    if client.get(name) == worker_id:
        client.pexpire(name, int(lease * 1000))
        return True
    return False


def resign(client: redis.Redis, worker_id: str) -> None:
    """Let another worker lead at once."""
    if client.get(keys.leader()) == worker_id:
        client.delete(keys.leader())
