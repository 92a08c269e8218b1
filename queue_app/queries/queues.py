"""Settings, depths and job counts of queues. The cost of the queries does not grow with the tables."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

from django.db.models import QuerySet

from queue_app.dispatch import connection, listing, queue_stats, queues
from queue_app.domain.states import UNFINISHED, JobState
from queue_app.models import DeadLetter, Job, Queue, indexes

#: Most rows that one query of this file reads.
COUNT_LIMIT = 10_000
#: States that are counted: unfinished jobs and open dead letters. The rest of the history has no bound.
COUNTED = [state.value for state in JobState if state in UNFINISHED or state is JobState.FAILED]


class JobCounts:
    """Number of job rows by queue and state, each up to `COUNT_LIMIT`."""

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
        """The queues of the counted rows."""
        return {queue for queue, _ in self._now | self._rest}

    def for_queue(self, queue: str) -> tuple[dict[str, int], bool]:
        """The counts of a queue by state, and whether the real numbers may be higher."""
        now, capped = self._now, self._now_capped
        if capped:  # other queues filled the sample; reading this queue's part of the index is as fast
            mine = indexes.QUEUED.newest_first(Job.objects.waiting_now().filter(queue=queue))
            now, capped = _count(mine, "queue", "state")
        return {
            state: now[queue, state] + self._rest[queue, state] for state in COUNTED
        }, capped or self._rest_capped


def _count(rows: QuerySet[Any], *columns: str) -> tuple[Counter[Any], bool]:
    # In an index order: without one the planner may read the history until it has enough rows.
    found = list(rows.values_list(*columns)[: COUNT_LIMIT + 1])
    return Counter(found[:COUNT_LIMIT]), len(found) > COUNT_LIMIT


def known_names(counts: JobCounts) -> list[str]:
    """The known queues, sorted: those with a row, those known to Redis, and those of the counted rows."""
    found = set(Queue.objects.values_list("name", flat=True)) | counts.queues()
    with contextlib.suppress(*connection.Unavailable):
        found |= queues.known(connection.client())
    return sorted(found)


def depths_of(wanted: list[str]) -> dict[str, dict[str, int]]:
    """The number of jobs in Redis for each of these queues; empty while Redis is away.

    `waiting` counts jobs that may start now. Jobs that are due later, and jobs set aside for a worker that knows their
    task, are counted apart. The samples of `stats` count in the same way.
    """
    found: dict[str, dict[str, int]] = {}
    with contextlib.suppress(*connection.Unavailable):
        for part in listing.parts(wanted):
            for name, one in queue_stats.count(connection.client(), part).items():
                found[name] = {word: getattr(one, word) for word in ("waiting", "due_later", "set_aside")}
        return found
    return {}


def describe(wanted: list[str], counts: JobCounts) -> list[dict[str, Any]]:
    """Describe queues: settings, `depth` and `counts` of each.

    `depth` is the number of jobs in Redis; None while Redis is away. `counts` is the number of job rows by state. With
    `counts_capped` the real numbers may be higher.
    """
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
