"""The verbs of the dispatch: push, claim, settle, give back, restore, find. Each is one script, each for many."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import redis

from queue_app.dispatch import keys, scripts
from queue_app.dispatch.connection import close
from queue_app.dispatch.holder import Holder, fence, seen
from queue_app.domain.delivery import Delivery

#: Jobs in one script call: enough to make round trips cheap, few enough to keep Redis answering others.
WORDS_PER_CALL = 2_000
#: Jobs in one call of those that follow one another without waiting: Redis works at one while the next is packed.
PUSH_CHUNK = 500
#: And characters of bodies in it: a nearly full Redis needs room for the call itself.
PUSH_CHARACTERS = 200_000
#: Seconds after their making within which jobs are pushed directly. Later their rows are read first (`restore`), since
#: another process may have pushed them meanwhile. A restore is remembered for longer than this (find.lua).
DIRECT = 10.0

#: (id, when it may start in epoch seconds or 0 for now, body)
Entry = tuple[str, float, str]


def push(client: redis.Redis, queue: str, entries: Sequence[Entry], made: float | None = None) -> int | None:
    """Put new jobs into a queue.

    Args:
        entries: `(id, at, body)`; at is epoch seconds, 0 for now.
        made: when they were made, on this process's monotonic clock, and before they could be seen by others. None:
            they cannot have been pushed by another process.

    Returns:
        How many were new to Redis; None when it is too late to push some of them without reading their rows, or Redis
        has lost its data since they were made.

    Raises:
        DataLost: Redis has stale data. The record has the jobs, and will have them pushed.
    """
    first = [keys.base(queue), "" if made is None else repr(made), repr(DIRECT)]
    answers = scripts.push.each(client, keys.for_push(queue), _batches(first, entries))
    if -1 not in answers:
        return sum(answers)
    if made is not None and time.monotonic() - made < DIRECT / 2:
        # It is not late: Redis has lost its data since, or a clock was set, or this machine slept. Compare them anew.
        close(client)
    return None


def restore(client: redis.Redis, by_queue: Mapping[str, tuple[Sequence[Entry], str]]) -> int:
    """Push jobs from the record that `missing` said are unknown to Redis, if that is still so.

    Args:
        by_queue: queue → `(entries, stamp)`; the stamp is what `missing` gave before the rows were read.

    Returns:
        How many were pushed.

    Raises:
        DataLost: what runs is not known at present.
        Full: there is no room for all of them.
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
    full = len(first) + 3 * PUSH_CHUNK
    for job_id, at, text in entries:
        words += (job_id, repr(at) if at else "0", text)
        size += len(text)
        if size >= PUSH_CHARACTERS or len(words) >= full:
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
        The deliveries in the order to run them; the time on the clock used; when the next delayed job of the
        queue is due, or None.

    Raises:
        DataLost: what is stale was not dropped yet, or not all living workers have announced what they run.
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
        seen(holder, queue),
    )
    at = float(answer[0])
    if answer[2] and isinstance(holder, Holder):
        holder.seen[keys.shard_of(queue)] = answer[2]
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
        ended: ids of jobs that are final, or are no longer the holder's business.
        going_on: `(id, at, body)` of jobs to be delivered again.
        tally: what is to be added to the queue's figures: `<field> <number> …`.

    Returns:
        How many were still held by `holder`.
    """
    names = [*_queue_keys(queue), keys.held(queue, holder), keys.fence_of(queue, holder), keys.ended(queue)]
    first, count = [keys.base(queue), holder, fence(holder, queue)], 0
    for start in range(0, len(ended), WORDS_PER_CALL):
        part = ended[start : start + WORDS_PER_CALL]
        count += scripts.settle(client, names, [*first, tally, len(part), *part])
        tally = ""
    for start in range(0, len(going_on), WORDS_PER_CALL):
        words = _words(going_on[start : start + WORDS_PER_CALL])
        count += scripts.settle(client, names, [*first, tally, 0, *words])
        tally = ""
    return count


def give_back(client: redis.Redis, queue: str, holder: str, ids: Sequence[str]) -> int:
    """Return claimed jobs that were not started to the front of their lanes, in the order given.

    Returns:
        How many were still held by `holder`.
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
    """Wake one blocked child (a token that a stopping child took is passed on)."""
    client.lpush(keys.bell(queue), "1")


class Held(NamedTuple):
    """Who holds a job, and since when (epoch seconds)."""

    holder: str
    since: float


def holders_of(client: redis.Redis, by_queue: Mapping[str, Sequence[str]]) -> dict[str, Held]:
    """Which children hold these jobs, and since when. Two round trips, however many queues.

    Args:
        by_queue: queue → ids.

    Returns:
        For the ids that are held.
    """
    return _held(_find(client, by_queue, "look"))


def withdraw(client: redis.Redis, queue: str, ids: Sequence[str]) -> dict[str, Held]:
    """Take those of these jobs that no child holds out of the queue, and keep them out.

    Returns:
        Who holds which of the others.

    Raises:
        DataLost: it is not known at present what runs. Nothing was taken out.
    """
    return _held(_find(client, {queue: ids}, "withdraw"))


def mark_cancelled(client: redis.Redis, queue: str, ids: Sequence[str]) -> dict[str, Held]:
    """Let none of these start from now on: withdraw those that wait, and mark those that children hold, so that they
    are not queued again.

    Returns:
        Who holds which, for the ids that are held.
    """
    return _held(_find(client, {queue: ids}, "cancel"))


def marked_cancelled(client: redis.Redis, queue: str, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that were withdrawn or marked; for a child that holds them and has not started them."""
    found: list[str] = []
    for start in range(0, len(ids), WORDS_PER_CALL):
        part = ids[start : start + WORDS_PER_CALL]
        scores = client.zmscore(keys.cancelled(queue), list(part))
        found += [job_id for job_id, score in zip(part, scores, strict=True) if score is not None]
    return found


def _held(found: dict[str, str]) -> dict[str, Held]:
    held = {}
    for job_id, value in found.items():
        if value not in ("+", "-"):
            stamp, _, name = value.partition("|")
            held[job_id] = Held(name, float(stamp) / 1000)
    return held


def missing(client: redis.Redis, by_queue: Mapping[str, Sequence[str]]) -> dict[str, tuple[list[str], str]]:
    """The ids that Redis does not know, for a caller that reads their rows now and then restores them. Until that, and
    for a minute after it, these jobs are not pushed directly any more. Two round trips, however many queues.

    Args:
        by_queue: queue → ids, at most CHUNK.

    Returns:
        Queue → its unknown ids, and the stamp for `restore`; queues without any left out.

    Raises:
        DataLost: it is not known at present what runs.
    """
    calls = [(keys.for_find(queue), [keys.base(queue), "restore", *ids]) for queue, ids in by_queue.items()]
    found: dict[str, tuple[list[str], str]] = {}
    for (queue, ids), (stamp, *places) in zip(
        by_queue.items(), scripts.many(client, scripts.find, calls), strict=True
    ):
        if unknown := [job_id for job_id, place in zip(ids, places, strict=True) if place == "-"]:
            found[queue] = unknown, stamp
    return found


def _find(client: redis.Redis, by_queue: Mapping[str, Sequence[str]], mode: str) -> dict[str, str]:
    calls: list[tuple[list[str], list[str]]] = []
    for queue, ids in by_queue.items():
        for start in range(0, len(ids), WORDS_PER_CALL):
            part = ids[start : start + WORDS_PER_CALL]
            calls.append((keys.for_find(queue), [keys.base(queue), mode, *part]))
    answers = scripts.many(client, scripts.find, calls)
    asked = (job_id for _, (_, _, *part) in calls for job_id in part)
    return dict(zip(asked, (place for _, *places in answers for place in places), strict=True))


def hold(client: redis.Redis, queue: str, holder: str, at: float, bodies: dict[str, str]) -> None:
    """Announce again what a living child is running, after Redis lost its data.

    Args:
        at: epoch seconds to be shown as the time of the claim.
        bodies: id → body.

    Raises:
        DataLost: stale data are still there; announce again when they were dropped.
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
    """List queues by name, for operators' pages and for recovery; also when Redis is full."""
    scripts.remember(client, [keys.queues()], list(queues))


def known(client: redis.Redis) -> set[str]:
    """The queues that were pushed to or served lately; those that are idle are forgotten (maintenance/idle.py)."""
    return {str(name) for name in client.smembers(keys.queues())}


def unregister(client: redis.Redis, queue: str, holder: str) -> None:
    """Forget a holder; what it held of this queue must have been taken back before."""
    client.srem(keys.holders(queue), holder)


def paused(client: redis.Redis, queues: Sequence[str]) -> set[str]:
    """Those of these queues whose claims Redis holds back; one round trip."""
    _, answers = scripts.ask(client, *[("EXISTS", keys.paused(queue)) for queue in queues])
    return {queue for queue, there in zip(queues, answers, strict=True) if there}
