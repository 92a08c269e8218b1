"""Entries: what Redis carries of a job, made from its row or from a delivery of it."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from queue_app import clock, conf
from queue_app.dispatch.queues import Entry
from queue_app.domain import delivery, envelope
from queue_app.domain.delivery import Delivery
from queue_app.models import sql
from queue_app.models.job import Job
from queue_app.models.sql.rows import NewJobs


def entries_of_new(jobs: NewJobs) -> list[Entry]:
    """The entries of jobs that were just made, in their order."""
    shared = envelope.of_row(jobs)
    at = shared.run_after or 0.0
    bodies = delivery.encode_many(shared, jobs.payloads, conf.get().BODY_LIMIT)
    return [(job_id, at, text) for job_id, text in zip(jobs.ids, bodies, strict=True)]


def entry_of_row(job: Job) -> Entry:
    """The entry of a waiting job, from its row."""
    fields = envelope.of_row(job)
    return str(job.pk), fields.run_after or 0.0, delivery.encode(fields, job.payload, conf.get().BODY_LIMIT)


def entries_of_waiting(ids: list[str]) -> list[Entry]:
    """The entries of many waiting jobs, in one query that reads no more than it must.

    Args:
        ids: of the jobs; the result has their order.

    Returns:
        The entries, without jobs that no longer wait, that are to be cancelled, or whose row another transaction has
        locked: that one may be cancelling the job.
    """
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
    """The entry of a job that goes on after `delivery`.

    The arguments are copied from the body as they are: the task may have changed the objects that it was given.

    Args:
        run_at: when the next attempt may start, epoch seconds; None: at once.
        started_at: when this attempt began, epoch seconds; it counts if it was the first one.
    """
    fields = envelope.copy(delivery)
    fields.number += 1
    fields.failures, fields.deaths, fields.suspect = failures, deaths, suspect
    if run_at is not None:
        fields.run_after = run_at
    if fields.started_at is None:
        fields.started_at = started_at
    return delivery.id, run_at or 0.0, envelope.head_of(fields) + delivery.payload


def is_near(at: float) -> bool:
    """Whether a job that may start at `at` (epoch seconds, 0 for now) belongs into Redis already."""
    return at <= clock.seconds() + conf.get().DUE_HORIZON


def ids_by_queue(jobs: Iterable[tuple[UUID | str, str]]) -> dict[str, list[str]]:
    """Queue → ids of `(id, queue)` pairs, in their order."""
    by_queue: dict[str, list[str]] = {}
    for pk, queue in jobs:
        by_queue.setdefault(queue, []).append(str(pk))
    return by_queue
