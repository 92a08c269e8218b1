"""Questions about many queues at once: a round trip or two, whatever their number. Callers ask in parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import redis

from queue_app.dispatch import keys, scripts

#: Queues in one part: Redis answers in a few milliseconds.
CHUNK = 1_000


def parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """The names in parts of at most `CHUNK`."""
    return (names[start : start + CHUNK] for start in range(0, len(names), CHUNK))


def holders(client: redis.Redis, names: Sequence[str]) -> dict[str, list[str]]:
    """The children that may hold jobs of these queues, dead ones not yet buried included; queues without any are left
    out."""
    answer = scripts.holders(client, [keys.holders(name) for name in names], [""])
    return {names[n - 1]: sorted(found) for n, found in zip(answer[::2], answer[1::2], strict=True)}


def unknown(client: redis.Redis, by_queue: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Of the ids of each queue, at most a few thousand, those that neither wait in Redis nor are held by a child, in
    the same order; queues without any are left out."""
    calls = [
        (
            [keys.body(name), keys.holders(name), keys.cancelled(name)],
            [keys.base(name), "0", *ids],
        )
        for name, ids in by_queue.items()
    ]
    answers = scripts.many(client, scripts.find, calls)
    missing = {
        name: [job_id for job_id, where in zip(ids, answer, strict=True) if where == "-"]
        for (name, ids), answer in zip(by_queue.items(), answers, strict=True)
    }
    return {name: ids for name, ids in missing.items() if ids}


def forget(client: redis.Redis, names: Sequence[str]) -> int:
    """Drop queues from the list, and what is left of them, where there is nothing to do.

    A job that is pushed at this moment is not lost: its queue is listed again here, or by the sweep.

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
