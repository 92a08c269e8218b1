"""Finding jobs in Redis: which children hold them, which are unknown; and withdrawing those that wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import redis

from queue_app.dispatch import keys, scripts

#: Ids in one script call: enough to make round trips cheap, few enough for Redis to answer others in between.
IDS_PER_CALL = 2_000


class Held(NamedTuple):
    """Who holds a job, and since when (epoch seconds)."""

    holder: str
    since: float


def holders_of(client: redis.Redis, by_queue: Mapping[str, Sequence[str]]) -> dict[str, Held]:
    """Which children hold these jobs, and since when. Two round trips for any number of queues.

    Args:
        by_queue: queue → ids.

    Returns:
        Id → its holder, for the ids that are held.
    """
    return _held(_find(client, by_queue, "look"))


def withdraw(client: redis.Redis, queue: str, ids: Sequence[str]) -> dict[str, Held]:
    """Remove those of these jobs that no child holds from the queue, and keep them out.

    Returns:
        Id → its holder, for the ids that are held.

    Raises:
        DataLost: what runs is not known at present. Nothing was removed.
    """
    return _held(_find(client, {queue: ids}, "withdraw"))


def mark_cancelled(client: redis.Redis, queue: str, ids: Sequence[str]) -> dict[str, Held]:
    """Let none of these jobs start from now on. Waiting ones are withdrawn. Held ones are marked, so that they are not
    queued again.

    Returns:
        Id → its holder, for the ids that are held.
    """
    return _held(_find(client, {queue: ids}, "cancel"))


def marked_cancelled(client: redis.Redis, queue: str, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that were withdrawn or marked. A child asks this about jobs that it holds and has not started."""
    found: list[str] = []
    for start in range(0, len(ids), IDS_PER_CALL):
        part = ids[start : start + IDS_PER_CALL]
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
    """The ids that Redis does not know, for a caller that then reads their rows and restores the jobs. Until then, and
    for a minute afterwards, these jobs are not pushed directly. Two round trips for any number of queues.

    Args:
        by_queue: queue → ids, at most IDS_PER_CALL of each.

    Returns:
        Queue → its unknown ids, and the stamp for `restore`. Queues without unknown ids are left out.

    Raises:
        DataLost: what runs is not known at present.
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
        for start in range(0, len(ids), IDS_PER_CALL):
            part = ids[start : start + IDS_PER_CALL]
            calls.append((keys.for_find(queue), [keys.base(queue), mode, *part]))
    answers = scripts.many(client, scripts.find, calls)
    asked = (job_id for _, (_, _, *part) in calls for job_id in part)
    return dict(zip(asked, (place for _, *places in answers for place in places), strict=True))
