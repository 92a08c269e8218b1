"""The verbs of the dispatch: push, claim, settle, give back, restore, find. Each is one script, each for many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import redis

from queue_app.dispatch import keys, scripts
from queue_app.dispatch.body import Delivery
from queue_app.dispatch.holder import fence

#: Jobs in one script call: enough to make round trips cheap, few enough to keep Redis answering others.
CHUNK = 2_000
#: Jobs in one call of those that follow one another without waiting: Redis works at one while the next is packed.
PUSH_CHUNK = 500

#: (id, when it may start in epoch seconds or 0 for now, body)
Entry = tuple[str, float, str]


def push(client: redis.Redis, queue: str, entries: Sequence[Entry]) -> int:
    """Put jobs that Redis does not know into a queue.

    Args:
        entries: `(id, at, body)`; at is epoch seconds, 0 for now.

    Returns:
        How many were new.
    """
    return _send(client, queue, entries, scripts.push, _push_keys(queue))


def restore(client: redis.Redis, queue: str, entries: Sequence[Entry]) -> int:
    """Push jobs from the record unless Redis knows them, waiting or held by any child.

    Returns:
        How many were missing.
    """
    return _send(client, queue, entries, scripts.restore, [*_push_keys(queue), keys.holders(queue)])


def _queue_keys(queue: str) -> list[str]:
    return [keys.body(queue), keys.levels(queue), keys.due(queue), keys.bell(queue)]


@lru_cache(maxsize=256)
def _push_keys(queue: str) -> list[str]:
    return [*_queue_keys(queue), keys.cancelled(queue)]


def _send(
    client: redis.Redis, queue: str, entries: Sequence[Entry], script: scripts.Script, names: list[str]
) -> int:
    base = keys.base(queue)
    parts = (entries[start : start + PUSH_CHUNK] for start in range(0, len(entries), PUSH_CHUNK))
    return sum(script.each(client, names, ([base, *_words(part)] for part in parts)))


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
    """
    answer = scripts.claim(
        client,
        [
            keys.body(queue),
            keys.levels(queue),
            keys.due(queue),
            keys.bell(queue),
            keys.held(queue, holder),
            keys.paused(queue),
            keys.holders(queue),
            keys.fence_of(queue, holder),
        ],
        [keys.base(queue), count, "" if now is None else repr(now), holder, fence(holder, queue)],
    )
    at = float(answer[0])
    found = [Delivery(queue, answer[i], answer[i + 1], at) for i in range(2, len(answer), 2)]
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
    first, count = [keys.base(queue), fence(holder, queue)], 0
    for start in range(0, len(ended), CHUNK):
        part = ended[start : start + CHUNK]
        count += scripts.settle(client, names, [*first, tally, len(part), *part])
        tally = ""
    for start in range(0, len(going_on), CHUNK):
        words = _words(going_on[start : start + CHUNK])
        count += scripts.settle(client, names, [*first, tally, 0, *words])
        tally = ""
    return count


def give_back(client: redis.Redis, queue: str, holder: str, ids: Sequence[str]) -> int:
    """Return claimed jobs that were not started to the front of their lanes, in the order given.

    Returns:
        How many were still held by `holder`.
    """
    names = [keys.body(queue), keys.levels(queue), keys.bell(queue), keys.held(queue, holder)]
    names.append(keys.fence_of(queue, holder))
    return scripts.give_back(client, names, [keys.base(queue), fence(holder, queue), *ids])


def pause(client: redis.Redis, queue: str, paused: bool) -> None:
    """Stop or resume the claims of a queue."""
    if paused:
        client.set(keys.paused(queue), "1")
    else:
        pipe = client.pipeline(transaction=True)
        pipe.delete(keys.paused(queue))
        pipe.lpush(keys.bell(queue), "1")
        pipe.execute()


def depth(client: redis.Redis, queues: Sequence[str]) -> dict[str, dict[str, int]]:
    """For each queue, how many ids wait for their turn or time: `{"waiting": n, "due_later": m}`."""
    pipe = client.pipeline(transaction=False)
    for queue in queues:
        pipe.hlen(keys.body(queue))
        pipe.zcard(keys.due(queue))
    answers = pipe.execute()
    return {
        queue: {"waiting": answers[2 * i] - answers[2 * i + 1], "due_later": answers[2 * i + 1]}
        for i, queue in enumerate(queues)
    }


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


def holders_of(
    client: redis.Redis, queue: str, ids: Sequence[str], *, withdraw: bool = False
) -> dict[str, Held]:
    """Which children hold these jobs, and since when.

    Args:
        withdraw: also take those that no child holds out of the queue, in the same step, and keep them out.

    Returns:
        For the ids that are held.
    """
    return _held(_find(client, queue, ids, "1" if withdraw else "0"))


def forbid(client: redis.Redis, queue: str, ids: Sequence[str]) -> dict[str, Held]:
    """Let none of these start from now on: withdraw those that wait, and mark those that children hold, so that they
    are not queued again.

    Returns:
        Who holds which, for the ids that are held.
    """
    return _held(_find(client, queue, ids, "2"))


def forbidden(client: redis.Redis, queue: str, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that were withdrawn or marked; for a child that holds them and has not started them."""
    found: list[str] = []
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK]
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


def unknown(client: redis.Redis, queue: str, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that neither wait in Redis nor are held by a child, in the same order."""
    return [i for i, at in _find(client, queue, ids, "0").items() if at == "-"]


def _find(client: redis.Redis, queue: str, ids: Sequence[str], mode: str) -> dict[str, str]:
    names = [keys.body(queue), keys.holders(queue), keys.cancelled(queue)]
    found: dict[str, str] = {}
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK]
        answer = scripts.find(client, names, [keys.base(queue), mode, *part])
        found.update(zip(part, answer, strict=True))
    return found


def hold(client: redis.Redis, queue: str, holder: str, at: float, bodies: dict[str, str]) -> None:
    """Announce again what a living child is running, after Redis lost its data.

    Args:
        at: epoch seconds to be shown as the time of the claim.
        bodies: id → body.
    """
    args: list[str] = [holder, str(int(at * 1000))]
    for job_id, text in bodies.items():
        args += (job_id, text)
    scripts.hold(client, [keys.body(queue), keys.held(queue, holder), keys.holders(queue)], args)


def holders(client: redis.Redis, queue: str) -> list[str]:
    """The names of the children that may hold jobs of a queue, dead ones not yet buried included."""
    return sorted(str(name) for name in client.smembers(keys.holders(queue)))


def note(client: redis.Redis, queues: Iterable[str]) -> None:
    """List queues by name, for operators' pages and for recovery."""
    client.sadd(keys.queues(), *queues)


def known(client: redis.Redis) -> set[str]:
    """The queues that were pushed to or served lately; those that are idle are forgotten (maintenance/idle.py)."""
    return {str(name) for name in client.smembers(keys.queues())}


def discharge(client: redis.Redis, queue: str, holder: str) -> None:
    """Forget a holder; what it held of this queue must have been taken back before."""
    client.srem(keys.holders(queue), holder)


def epoch(client: redis.Redis) -> str | None:
    """The name of this life of Redis's data, given by whoever made good its last loss; None while nobody has."""
    found = client.get(keys.epoch())
    return None if found is None else str(found)


def lost_its_data(client: redis.Redis) -> bool:
    """Whether Redis is empty of us: after FLUSHALL, a restart without persistence, or at the very first start."""
    return epoch(client) is None


def is_paused(client: redis.Redis, queue: str) -> bool:
    """Whether Redis holds back the claims of a queue."""
    return bool(client.exists(keys.paused(queue)))
