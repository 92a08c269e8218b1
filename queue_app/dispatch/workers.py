"""The workers that Redis knows: heartbeats, the holders of their children, and the leader of the duties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import redis

from queue_app.dispatch import epochs, keys, scripts
from queue_app.dispatch.epochs import Epoch

#: Seconds for which a request to a worker is kept. A duty repeats requests that were not answered.
CONTROL_SECONDS = 60


class Listed(NamedTuple):
    """A worker as Redis lists it.

    Attributes:
        beat: epoch seconds of the last heartbeat, on the clock of Redis.
        queues: the queues that it serves.
    """

    id: str
    beat: float
    queues: list[str]


def holder(worker_id: str, serial: int) -> str:
    """The name under which a child holds jobs. The serial is never used twice by a worker: what a dead child held
    must not be mistaken for what its successor holds."""
    return f"{worker_id}.{serial}"


def owner(holder_name: str) -> str:
    """The worker of a holder."""
    return holder_name.rpartition(".")[0]


def now(client: redis.Redis) -> float:
    """The time on the clock of Redis, epoch seconds."""
    seconds, micros = client.time()
    return seconds + micros / 1_000_000


def register(client: redis.Redis, worker_id: str, queues: Sequence[str] = ()) -> None:
    """List a worker that is not listed yet: its lease begins now. A child does so before its first claim, which may
    come before the keeper's first heartbeat."""
    scripts.beat(client, [keys.workers(), keys.queues()], [worker_id, 0, *queues])


def beat(client: redis.Redis, worker_id: str, queues: Sequence[str]) -> None:
    """List a worker and the queues that it serves, or renew its heartbeat: the lease of all that its children hold."""
    scripts.beat(client, [keys.workers(), keys.queues()], [worker_id, 1, *queues])


def remove(client: redis.Redis, worker_id: str) -> None:
    """Remove a worker from the list. Its children's jobs must have been taken back before."""
    commands = [("HDEL", keys.workers(), worker_id), ("DEL", keys.control(worker_id))]
    scripts.ask(client, *commands, *[("HDEL", keys.announced(shard), worker_id) for shard in keys.shards()])


def interrupt(client: redis.Redis, worker_id: str, ids: Sequence[str]) -> None:
    """Ask a worker to interrupt jobs that its children hold."""
    for start in range(0, len(ids), 4_000):
        part = ids[start : start + 4_000]
        scripts.interrupt(client, [keys.control(worker_id)], [CONTROL_SECONDS, *part])


def to_interrupt(client: redis.Redis, worker_id: str, seconds: float) -> list[str]:
    """The ids of jobs that a worker was asked to interrupt, oldest request first.

    Args:
        seconds: how long to wait for one; the client's timeout must be longer.
    """
    first = client.blpop([keys.control(worker_id)], timeout=seconds)
    if first is None:
        return []
    more = client.lpop(keys.control(worker_id), 1_000)
    return [str(first[1]), *map(str, more or ())]


def listed(client: redis.Redis) -> list[Listed]:
    """All workers in the list, including dead ones that were not removed yet."""
    result = []
    for worker_id, value in _texts(client, keys.workers()).items():
        beat_at, _, served = value.partition("|")
        result.append(Listed(worker_id, float(beat_at), served.split(",") if served else []))
    return result


def _texts(client: redis.Redis, name: str) -> dict[str, str]:
    return cast(dict[str, str], client.hgetall(name))  # the client decodes


def held(client: redis.Redis, queue: str, holder_name: str) -> dict[str, tuple[float, str]]:
    """What a child holds of a queue: id → (claimed at in epoch seconds, body)."""
    result = {}
    for job_id, value in _texts(client, keys.held(queue, holder_name)).items():
        stamp, _, raw = value.partition("|")
        result[job_id] = (float(stamp) / 1000, raw)
    return result


def lead(client: redis.Redis, worker_id: str, lease: float, token: int) -> bool:
    """Begin to lead for `lease` seconds, unless another process leads.

    Args:
        token: the fencing token: a number that no earlier leadership had.

    Returns:
        Whether this process leads now.
    """
    return bool(scripts.lead(client, [keys.leader()], [worker_id, _milliseconds(lease), token, 1]))


def renew(client: redis.Redis, worker_id: str, lease: float, token: int) -> tuple[bool, dict[str, Epoch]]:
    """Stay the leader for `lease` seconds more, and look whether Redis has its data; one round trip.

    Returns:
        Whether the leadership of this token lasts; and the epochs of all shards.
    """
    shards = keys.shards()
    leads, server, answers = scripts.with_commands(
        client,
        scripts.lead,
        [keys.leader()],
        [worker_id, _milliseconds(lease), token, 0],
        epochs.commands(shards),
    )
    return bool(leads), epochs.understood(shards, server, answers)


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def resign(client: redis.Redis, worker_id: str, token: int) -> None:
    """Let another worker lead at once, if this leadership has not ended by itself."""
    scripts.lead(client, [keys.leader()], [worker_id, 0, token, 0])


def leader(client: redis.Redis) -> tuple[str, int] | None:
    """Who leads, and the token of the leadership; None when no process leads."""
    value = client.get(keys.leader())
    if value is None:
        return None
    worker_id, _, token = str(value).partition("|")
    return worker_id, int(token or 0)


def note_duties(client: redis.Redis, states: dict[str, str]) -> None:
    """Save the state of duties: name → JSON text."""
    client.hset(keys.duties(), mapping=cast(Any, states))


def duties(client: redis.Redis) -> dict[str, str]:
    """The saved state of duties: name → JSON text."""
    return _texts(client, keys.duties())
