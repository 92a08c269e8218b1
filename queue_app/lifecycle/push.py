"""From rows to what Redis carries: bodies, the push after a commit, and the one place that judges Redis's health.

A failure of Redis never breaks the caller: the rows are there, and the reconciler pushes what was not.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from queue_app import clock, conf, signals
from queue_app.dispatch import connection, queues
from queue_app.dispatch.queues import Entry
from queue_app.domain import delivery, envelope
from queue_app.domain.delivery import Delivery
from queue_app.models import sql
from queue_app.models.job import Job
from queue_app.models.sql.rows import NewJobs

logger = logging.getLogger(__name__)

#: Seconds that an enqueuing process leaves Redis alone after it failed, so that enqueueing stays fast meanwhile.
BREAK = 1.0
#: Seconds that a push may take before the caller goes on without it.
PUSH_TIMEOUT = 2.0

_down_since: float | None = None
_retry_at = 0.0
_announced: tuple[int, set[str]] = (0, set())


def entries_of_new(jobs: NewJobs) -> list[Entry]:
    """What Redis carries of jobs just made."""
    shared = envelope.of_row(jobs)
    at = shared.run_after or 0.0
    bodies = delivery.encode_many(shared, jobs.payloads, conf.get().BODY_LIMIT)
    return [(job_id, at, text) for job_id, text in zip(jobs.ids, bodies, strict=True)]


def ids_by_queue(found: Iterable[tuple[UUID | str, str]]) -> dict[str, list[str]]:
    """Queue → ids of `(id, queue)` pairs, in their order."""
    by_queue: dict[str, list[str]] = {}
    for pk, queue in found:
        by_queue.setdefault(queue, []).append(str(pk))
    return by_queue


def entry_of_row(job: Job) -> Entry:
    """What Redis should carry of a waiting job, from its row."""
    said = envelope.of_row(job)
    return str(job.pk), said.run_after or 0.0, delivery.encode(said, job.payload, conf.get().BODY_LIMIT)


def entries_of_waiting(ids: list[str]) -> list[Entry]:
    """The same of many, in the order of their ids here, from as little as the database has to give; without those that
    wait no longer, that are to be cancelled, or that another transaction has locked: it may be cancelling them."""
    database = sql.write_connection()
    rows = sql.for_vendor(database).read_waiting(database, ids, conf.get().BODY_LIMIT)
    found = {row.id: row for row in rows}
    return [
        (job_id, row.at, envelope.sealed(row.head) + (row.payload or "null"))
        for job_id in ids
        if (row := found.get(job_id)) is not None
    ]


def entry_of_next(
    delivery: Delivery,
    *,
    failures: int,
    deaths: int,
    run_at: float | None,
    started_at: float | None,
    suspect: bool = False,
) -> Entry:
    """What Redis carries of a job that goes on after `delivery`. Its arguments are those of the body, as they are: a
    task may have changed those that it was given."""
    said = envelope.copy(delivery)
    said.number += 1
    said.failures, said.deaths, said.suspect = failures, deaths, suspect
    if run_at is not None:
        said.run_after = run_at
    if said.started_at is None:
        said.started_at = started_at
    return delivery.id, run_at or 0.0, envelope.head_of(said) + delivery.payload


def near(at: float) -> bool:
    """Whether a job that may start at `at` (epoch seconds, 0 for now) belongs into Redis already."""
    return at <= clock.seconds() + conf.get().DUE_HORIZON


def push_quietly(by_queue: dict[str, list[Entry]], made: float) -> set[str]:
    """Push after a commit; on failure say so once and go on.

    Args:
        made: when the oldest of them were made, on this process's monotonic clock.

    Returns:
        The queues with jobs that are too old to be pushed without reading their rows.
    """
    global _retry_at
    if _retry_at and clock.seconds() < _retry_at:
        return set()
    late = set()
    try:
        client = connection.client(PUSH_TIMEOUT)
        for queue, entries in by_queue.items():
            if queues.push(client, queue, entries, made) is None:
                late.add(queue)
        announce(client, by_queue)
    except (connection.DataLost, connection.Full) as error:
        logger.debug("The leader will push these jobs: %s", error)  # it answers, and is no reason to wait
        return set()
    except connection.Unavailable as error:
        _retry_at = clock.seconds() + BREAK
        redis_failed(error)
        return set()
    except Exception:  # the rows are committed, and the caller must not suffer
        logger.exception("Pushing to Redis failed; the reconciler will find the jobs.")
        return set()
    _retry_at = 0.0
    redis_answered()
    return late


def announce(client: Any, names: Iterable[str]) -> None:
    """Note queues by name in Redis, once for each process, so that operators' pages can list them."""
    global _announced
    if _announced[0] != os.getpid():
        _announced = (os.getpid(), set())
    new = [name for name in names if name not in _announced[1]]
    if new:
        queues.remember(client, new)
        _announced[1].update(new)


def redis_failed(error: BaseException) -> None:
    """Note that Redis is away; the first time in a row, say so. A call that was refused was answered."""
    global _down_since
    if isinstance(error, connection.Fenced | connection.DataLost | connection.Full):
        return
    if _down_since is None:
        _down_since = clock.seconds()
        signals.store_lost.send_robust(sender=None, store="redis", error=connection.explain(error))


def redis_answered() -> None:
    """Note that Redis is there; after an absence, say for how long it was away."""
    global _down_since
    if _down_since is not None:
        downtime, _down_since = clock.seconds() - _down_since, None
        signals.store_returned.send_robust(sender=None, store="redis", downtime=downtime)
