"""Questions about many queues at once, in one or two round trips. Callers ask in `parts`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import redis

from queue_app.dispatch import keys, scripts

#: Queues in one part: Redis answers in a few milliseconds.
KEYS_PER_CALL = 1_000


def parts(names: Iterable[str]) -> Iterator[list[str]]:
    """The names in parts of at most `KEYS_PER_CALL`, each of one shard."""
    by_shard: dict[str, list[str]] = {}
    for name in names:
        by_shard.setdefault(keys.shard_of(name), []).append(name)
    for found in by_shard.values():
        for start in range(0, len(found), KEYS_PER_CALL):
            yield found[start : start + KEYS_PER_CALL]


def holders(client: redis.Redis, names: Sequence[str]) -> dict[str, list[str]]:
    """The children that may hold jobs of these queues, including dead ones whose jobs are not recovered yet. Queues
    without any are left out."""
    return {name: sorted(found) for name, found in _each(client, scripts.holders, names, keys.holders)}


def _each(
    client: redis.Redis, script: scripts.Script, names: Sequence[str], key_of: Callable[[str], str]
) -> Iterator[tuple[str, list[Any]]]:
    """What a script answers for each queue. A script that took long stops, and is called again for the rest."""
    while names:
        looked_at, *answer = script(client, [key_of(name) for name in names], [""])
        for n, found in zip(answer[::2], answer[1::2], strict=True):
            yield names[n - 1], found
        names = names[looked_at:]


class Count(NamedTuple):
    """What Redis has of a queue, and how many waiting jobs a claim can reach.

    Attributes:
        waiting: jobs that may be claimed now.
        held: jobs that children hold.
        due_later: jobs that wait for their time.
        set_aside: jobs that wait for a worker that knows their task.
        listed: ids in lanes; those of cancelled jobs may be among them.
        ended: attempts that have ended, by state; and `run_ms`, the milliseconds that they ran in all.
    """

    waiting: int = 0
    held: int = 0
    due_later: int = 0
    set_aside: int = 0
    listed: int = 0
    ended: Mapping[str, int] = MappingProxyType({})


def counts(client: redis.Redis, names: Sequence[str]) -> dict[str, Count]:
    """What Redis has of these queues; one round trip, and more if they have very many children or lanes."""
    found = {name: Count() for name in names}
    for name, (known, held, due, aside, listed, *words) in _each(client, scripts.counts, names, keys.body):
        ended = {state: int(number) for state, number in zip(words[::2], words[1::2], strict=True)}
        found[name] = Count(max(0, known - held - due - aside), held, due, aside, listed, ended)
    return found


def stray(client: redis.Redis, names: Sequence[str], sample: int = 300) -> set[str]:
    """Those of these queues that have a job in no lane, as far as a sample shows; one round trip.

    Args:
        sample: how many jobs of each queue are looked at, about.
    """
    calls = [
        (
            [keys.body(name), keys.due(name), keys.unknown(name), keys.levels(name)],
            ["", keys.base(name), sample],
        )
        for name in names
    ]
    found = scripts.many(client, scripts.stray, calls) if calls else []
    return {name for name, count in zip(names, found, strict=True) if count}


def unknown(client: redis.Redis, by_queue: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The ids that neither wait in Redis nor are held by a child, in the same order.

    Args:
        by_queue: queue → ids, at most a few thousand of each.

    Returns:
        Queue → its unknown ids; queues without any are left out.

    Raises:
        DataLost: what runs is not known at present.
    """
    calls = [(keys.for_find(name), [keys.base(name), "check", *ids]) for name, ids in by_queue.items()]
    answers = scripts.many(client, scripts.find, calls)
    missing = {
        name: [job_id for job_id, where in zip(ids, answer, strict=True) if where == "-"]
        for (name, ids), (_, *answer) in zip(by_queue.items(), answers, strict=True)
    }
    return {name: ids for name, ids in missing.items() if ids}


def forget(client: redis.Redis, names: Sequence[str]) -> int:
    """Remove idle queues from the list, and what is left of them in Redis.

    A job that is pushed at this moment is not lost: its queue is listed again, here or by the sweep.

    Returns:
        How many were dropped.
    """
    if not names:
        return 0
    dropped = scripts.many(client, scripts.forget, [(_all_keys(name), [keys.base(name)]) for name in names])
    gone = [name for name, done in zip(names, dropped, strict=True) if done]
    if not gone:
        return 0
    commands = [("SREM", keys.queues(), *gone), *[("EXISTS", keys.body(name)) for name in gone]]
    _, (_, *there) = scripts.ask(client, *commands)
    if back := [name for name, found in zip(gone, there, strict=True) if found]:
        client.sadd(keys.queues(), *back)
    return len(gone) - len(back)


def _all_keys(name: str) -> list[str]:
    return [
        keys.body(name),
        keys.holders(name),
        keys.paused(name),
        keys.cancelled(name),
        keys.levels(name),
        keys.due(name),
        keys.bell(name),
        keys.ended(name),
        keys.unknown(name),
    ]
