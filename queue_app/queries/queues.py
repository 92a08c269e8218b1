"""The figures of queues, from queries whose cost does not grow with the tables."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

from django.db.models import QuerySet

from queue_app.dispatch import connection, listing, queue_stats, queues
from queue_app.domain.states import UNFINISHED, JobState
from queue_app.models import DeadLetter, Job, Queue, indexes

#: Rows that a query of this file reads at most.
COUNT_LIMIT = 10_000
#: States that are counted: what is still to do, and what lies in the dead letters. History has no such end.
COUNTED = [state.value for state in JobState if state in UNFINISHED or state is JobState.FAILED]


class JobCounts:
    """Jobs of the record by queue and state, each number up to `COUNT_LIMIT`."""

    def __init__(self) -> None:
        self._now, self._now_capped = _count(
            indexes.QUEUED.newest_first(Job.objects.waiting_now()), "queue", "state"
        )
        timed, timed_capped = _count(Job.objects.timed().order_by("run_after"), "queue", "state")
        dead, dead_capped = _count(
            DeadLetter.objects.filter(replayed_at__isnull=True).order_by("-pk"), "queue"
        )
        self._rest = timed + Counter({(queue, JobState.FAILED.value): n for (queue,), n in dead.items()})
        self._rest_capped = timed_capped or dead_capped

    def queues(self) -> set[str]:
        """The queues that were met while counting."""
        return {queue for queue, _ in self._now | self._rest}

    def for_queue(self, queue: str) -> tuple[dict[str, int], bool]:
        """The counts of a queue by state, and whether there may be more than they say."""
        now, capped = self._now, self._now_capped
        if capped:  # others have filled the sample; this queue's own part of the index is as quick to read
            mine = indexes.QUEUED.newest_first(Job.objects.waiting_now().filter(queue=queue))
            now, capped = _count(mine, "queue", "state")
        return {
            state: now[queue, state] + self._rest[queue, state] for state in COUNTED
        }, capped or self._rest_capped


def _count(rows: QuerySet[Any], *columns: str) -> tuple[Counter[Any], bool]:
    # In the order of an index. In none the planner may read the history until it has met enough.
    found = list(rows.values_list(*columns)[: COUNT_LIMIT + 1])
    return Counter(found[:COUNT_LIMIT]), len(found) > COUNT_LIMIT


def known_names(counts: JobCounts) -> list[str]:
    """The known queues, sorted: those with a row, those that Redis has seen, and those met while counting."""
    found = set(Queue.objects.values_list("name", flat=True)) | counts.queues()
    with contextlib.suppress(*connection.Unavailable):
        found |= queues.known(connection.client())
    return sorted(found)


def depths_of(wanted: list[str]) -> dict[str, dict[str, int]]:
    """What Redis holds of each of these queues; empty while it is away.

    Waiting is what may start: neither what waits for its time, nor what is set aside for a worker that knows its task.
    The samples of `stats` mean the same by it.
    """
    found: dict[str, dict[str, int]] = {}
    with contextlib.suppress(*connection.Unavailable):
        for part in listing.parts(wanted):
            for name, one in queue_stats.count(connection.client(), part).items():
                found[name] = {word: getattr(one, word) for word in ("waiting", "due_later", "set_aside")}
        return found
    return {}


def describe(wanted: list[str], counts: JobCounts) -> list[dict[str, Any]]:
    """For each queue: its row's settings, `depth` (what Redis holds; None while it is away) and `counts` (jobs of
    the record by state; with `counts_capped` there may be more)."""
    rows = {row.name: row for row in Queue.objects.filter(name__in=wanted)}
    depths = depths_of(wanted)
    found = []
    for name in wanted:
        row = rows.get(name, Queue(name=name))
        by_state, capped = counts.for_queue(name)
        found.append(
            {
                "name": name,
                "paused": row.paused,
                "max_attempts": row.max_attempts,
                "timeout": row.timeout,
                "depth": depths.get(name),
                "counts": by_state,
                "counts_capped": capped,
            }
        )
    return found
