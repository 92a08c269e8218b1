"""The verbs of the dispatch: push, claim, settle, give back, restore. Each is one script, for many jobs at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import redis

from queue_app.dispatch import keys, scripts
from queue_app.dispatch.connection import close
from queue_app.dispatch.holder import Holder, counted, fence
from queue_app.domain.delivery import Delivery

#: Jobs in one call of settle: enough to make round trips cheap, few enough for Redis to answer others in between.
JOBS_PER_SETTLE = 2_000
#: Jobs in one call of push. Redis works at one call while the next is packed.
JOBS_PER_PUSH = 500
#: Characters of bodies in one call of push: a nearly full Redis needs room for the call itself.
CHARACTERS_PER_PUSH = 200_000
#: Seconds after they were made within which jobs are pushed directly. Later another process may have pushed them, so
#: their rows are read first (`restore`). Redis remembers a restore for longer than this (find.lua).
DIRECT_PUSH_SECONDS = 10.0

#: A job to be queued: (id, when it may start in epoch seconds or 0 for now, body)
Entry = tuple[str, float, str]


def push(client: redis.Redis, queue: str, entries: Sequence[Entry], made: float | None = None) -> int | None:
    """Put new jobs into a queue.

    Args:
        entries: `(id, at, body)`; at is epoch seconds, 0 for now.
        made: seconds on this process's monotonic clock: when they were made, before other processes could see them.
            None: no other process can have pushed them.

    Returns:
        How many were new to Redis. None: it is too late to push some of them without reading their rows, or Redis has
        lost its data since they were made.

    Raises:
        DataLost: Redis has stale data. The jobs are in the record, and are pushed from there later.
    """
    first = [keys.base(queue), "" if made is None else repr(made), repr(DIRECT_PUSH_SECONDS)]
    answers = scripts.push.each(client, keys.for_push(queue), _batches(first, entries))
    if -1 not in answers:
        return sum(answers)
    if made is not None and time.monotonic() - made < DIRECT_PUSH_SECONDS / 2:
        # Not late: Redis lost its data, a clock was set, or this machine slept. A new connection compares the clocks.
        close(client)
    return None


def restore(client: redis.Redis, by_queue: Mapping[str, tuple[Sequence[Entry], str]]) -> int:
    """Push jobs from the record that `missing` reported, if Redis still does not know them.

    Args:
        by_queue: queue → `(entries, stamp)`; `missing` gave the stamp before the rows were read.

    Returns:
        How many were pushed.

    Raises:
        DataLost: what runs is not known at present.
        Full: Redis has no room for all of them.
    """
    calls = [
        (keys.for_push(queue), words)
        for queue, (entries, stamp) in by_queue.items()
        for words in _batches([keys.base(queue), stamp], entries)
    ]
    return sum(scripts.many(client, scripts.restore, calls))


def _queue_keys(queue: str) -> list[str]:
    return [keys.epoch_of(queue), keys.body(queue), keys.levels(queue), keys.due(queue), keys.bell(queue)]


def _batches(first: list[str], entries: Sequence[Entry]) -> Iterable[list[str]]:
    words, size = list(first), 0
    full = len(first) + 3 * JOBS_PER_PUSH
    for job_id, at, text in entries:
        words += (job_id, repr(at) if at else "0", text)
        size += len(text)
        if size >= CHARACTERS_PER_PUSH or len(words) >= full:
            yield words
            words, size = list(first), 0
    if len(words) > len(first):
        yield words


def _words(entries: Sequence[Entry]) -> list[str]:
    words: list[str] = []
    for job_id, at, text in entries:
        words += (job_id, repr(at) if at else "0", text)
    return words


def claim(
    client: redis.Redis, queue: str, holder: str, count: int, now: float | None = None
) -> tuple[list[Delivery], float, float | None]:
    """Claim up to `count` jobs for `holder`.

    Args:
        holder: the child that will hold them.
        now: epoch seconds; None for the clock of Redis.

    Returns:
        The deliveries in the order to run them; the time on the clock used, epoch seconds; when the next delayed job
        of the queue is due, epoch seconds, or None.

    Raises:
        DataLost: stale data were not dropped yet, or not all living workers have announced what they run.
        Fenced: this child's calls were revoked.
    """
    answer = scripts.claim(
        client,
        [
            *_queue_keys(queue),
            keys.held(queue, holder),
            keys.paused(queue),
            keys.holders(queue),
            keys.fence_of(queue, holder),
        ],
        [keys.base(queue), count, "" if now is None else repr(now), holder, fence(holder, queue)],
        counted(holder, queue),
    )
    at = float(answer[0])
    if answer[2] and isinstance(holder, Holder):
        holder.counted[keys.shard_of(queue)] = answer[2]
    found = [Delivery(queue, answer[i], answer[i + 1], at) for i in range(3, len(answer), 2)]
    return found, at, float(answer[1]) if answer[1] else None


def settle(
    client: redis.Redis,
    queue: str,
    holder: str,
    ended: Sequence[str],
    going_on: Sequence[Entry] = (),
    tally: str = "",
) -> int:
    """Let go of jobs that `holder` held, after their outcomes were committed.

    Args:
        ended: ids of jobs that are final, or that the holder no longer has to run.
        going_on: `(id, at, body)` of jobs to be delivered again.
        tally: what to add to the queue's counters: `<field> <number> …`.

    Returns:
        How many of the ids `holder` still held.

    Raises:
        Fenced: this child's calls were revoked.
    """
    names = [*_queue_keys(queue), keys.held(queue, holder), keys.fence_of(queue, holder), keys.ended(queue)]
    first, count = [keys.base(queue), holder, fence(holder, queue)], 0
    for start in range(0, len(ended), JOBS_PER_SETTLE):
        part = ended[start : start + JOBS_PER_SETTLE]
        count += scripts.settle(client, names, [*first, tally, len(part), *part])
        tally = ""
    for start in range(0, len(going_on), JOBS_PER_SETTLE):
        words = _words(going_on[start : start + JOBS_PER_SETTLE])
        count += scripts.settle(client, names, [*first, tally, 0, *words])
        tally = ""
    return count


def give_back(client: redis.Redis, queue: str, holder: str, ids: Sequence[str]) -> int:
    """Return claimed jobs that were not started to the front of their lanes, in the order given.

    Returns:
        How many of the ids `holder` still held.

    Raises:
        Fenced: this child's calls were revoked.
    """
    names = [keys.epoch_of(queue), keys.body(queue), keys.levels(queue), keys.bell(queue)]
    names += [keys.held(queue, holder), keys.fence_of(queue, holder)]
    return int(scripts.give_back(client, names, [keys.base(queue), fence(holder, queue), *ids]))


def pause(client: redis.Redis, queue: str, paused: bool) -> bool:
    """Stop or resume the claims of a queue. Returns whether that changed something."""
    return bool(scripts.pause(client, [keys.paused(queue), keys.bell(queue)], [int(paused)]))


def wait(client: redis.Redis, queues: Sequence[str], seconds: float) -> bool:
    """Block on the queues' bells for at most `seconds`.

    Returns:
        Whether a bell was rung.
    """
    return client.blpop([keys.bell(queue) for queue in queues], timeout=seconds) is not None


def ring(client: redis.Redis, queue: str) -> None:
    """Wake one blocked child. A child that stops passes its token on in this way."""
    client.lpush(keys.bell(queue), "1")


def hold(client: redis.Redis, queue: str, holder: str, at: float, bodies: dict[str, str]) -> None:
    """Announce again what a living child is running, after Redis lost its data.

    Args:
        at: epoch seconds to be shown as the time of the claim.
        bodies: id → body.

    Raises:
        DataLost: stale data are still there; announce again after they were dropped.
    """
    args: list[str] = [keys.base(queue), holder, str(int(at * 1000))]
    for job_id, text in bodies.items():
        args += (job_id, text)
    names = [
        keys.epoch_of(queue),
        keys.body(queue),
        keys.held(queue, holder),
        keys.holders(queue),
        keys.due(queue),
    ]
    scripts.hold(client, names, args)


def remember(client: redis.Redis, queues: Iterable[str]) -> None:
    """List queues by name, for operators' pages and for recovery. Works also when Redis is full."""
    scripts.remember(client, [keys.queues()], list(queues))


def known(client: redis.Redis) -> set[str]:
    """The queues that were pushed to or served lately. Idle ones are forgotten (maintenance/idle.py)."""
    return {str(name) for name in client.smembers(keys.queues())}


def unregister(client: redis.Redis, queue: str, holder: str) -> None:
    """Forget a holder of this queue. Its jobs must have been taken back before."""
    client.srem(keys.holders(queue), holder)


def paused(client: redis.Redis, queues: Sequence[str]) -> set[str]:
    """Those of these queues that are paused in Redis; one round trip."""
    _, answers = scripts.ask(client, *[("EXISTS", keys.paused(queue)) for queue in queues])
    return {queue for queue, there in zip(queues, answers, strict=True) if there}
