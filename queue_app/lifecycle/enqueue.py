"""Enqueue: rows in the caller's transaction, one push to Redis when it commits.

P1: a committed enqueue runs, a rolled-back one never does, and Redis being away changes neither.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from queue_app import clock, signals
from queue_app.dispatch.queues import Entry
from queue_app.domain import ids
from queue_app.domain.envelope import LANE
from queue_app.lifecycle import push, release
from queue_app.lifecycle.entries import entries_of_new, is_near
from queue_app.lifecycle.queue_defaults import queue_defaults
from queue_app.models import sql
from queue_app.models.sql.rows import NewJobs

logger = logging.getLogger(__name__)

#: Rows in one INSERT of the generic path and in one COPY.
JOBS_PER_STATEMENT = 10_000


@dataclass(slots=True)
class Request:
    """What the calls of one `enqueue` share; already checked.

    Attributes:
        max_attempts, timeout: None leaves them to the queue's or the settings' default.
        fallback_attempts, fallback_timeout: what the settings say of jobs of this kind.
        lane, meta: see domain/envelope.py; `meta` is text made by `dump_meta`.
    """

    task: str
    queue: str
    priority: int
    run_after: datetime | None
    backend: str
    max_attempts: int | None
    timeout: float | None
    fallback_attempts: int
    fallback_timeout: float | None = None
    lane: str = LANE
    meta: str | None = None


class Batch(NamedTuple):
    """What is to be pushed of one enqueue.

    Attributes:
        made: when its rows were written, on this process's monotonic clock: before other processes could see them.
    """

    queue: str
    run_after: datetime | None
    entries: list[Entry]
    made: float


def enqueue(
    request: Request, payloads: list[str], meanwhile: Callable[[NewJobs], None] | None = None
) -> NewJobs:
    """Write the jobs in the caller's transaction, on the alias that the router gives, and push them on commit.

    Args:
        payloads: JSON text `[[args…], {kwargs…}]` of each call.
        meanwhile: what the caller wants to do with the rows while the database writes them.

    Returns:
        The rows as written, in the order of the payloads. All are written, or none.
    """
    connection = sql.write_connection()
    jobs = _new_jobs(request, payloads, connection)
    if not payloads:
        return jobs
    entries: list[Entry] = []

    def prepare() -> None:
        entries.extend(entries_of_new(jobs))
        if meanwhile is not None:
            meanwhile(jobs)

    insert = sql.for_vendor(connection).insert_jobs
    made = time.monotonic()
    if len(jobs) <= JOBS_PER_STATEMENT:
        insert(connection, jobs, prepare)
    else:
        with transaction.atomic(using=connection.alias):
            for start in range(0, len(jobs), JOBS_PER_STATEMENT):
                insert(connection, jobs.part(start, start + JOBS_PER_STATEMENT), None if start else prepare)
            made = time.monotonic()
    if signals.jobs_enqueued.receivers:
        signals.jobs_enqueued.send_robust(sender=None, queue=jobs.queue, ids=jobs.ids)
    _push_on_commit(connection, Batch(jobs.queue, jobs.run_after, entries, made))
    return jobs


def _new_jobs(request: Request, payloads: list[str], connection: BaseDatabaseWrapper) -> NewJobs:
    now = clock.now()
    defaults = queue_defaults.of(request.queue, connection)
    run_after = request.run_after
    return NewJobs(
        task=request.task,
        queue=request.queue,
        priority=request.priority,
        state="scheduled" if run_after is not None and run_after > now else "queued",
        backend=request.backend,
        run_after=run_after,
        max_attempts=request.max_attempts or defaults.max_attempts or request.fallback_attempts,
        timeout=_first(request.timeout, defaults.timeout, request.fallback_timeout),
        enqueued_at=now,
        ids=[ids.new_text() for _ in payloads],
        payloads=payloads,
        lane=request.lane,
        meta=request.meta,
    )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _push_on_commit(connection: BaseDatabaseWrapper, batch: Batch) -> None:
    if not connection.in_atomic_block and connection.get_autocommit():
        push_committed([batch])
        return
    if not connection.in_atomic_block:
        # The caller steers the transaction by hand: only the sweep can know when it commits.
        logger.debug(
            "%d jobs enqueued under manual transaction management; the sweep will push them.",
            len(batch.entries),
        )
        return
    # Django must hold the only strong reference: see _Push.
    hook = _Push(connection, batch)
    transaction.on_commit(hook, using=connection.alias, robust=True)
    _survivors(connection)[id(hook)] = hook


def _survivors(connection: BaseDatabaseWrapper) -> weakref.WeakValueDictionary[int, _Push]:
    found: weakref.WeakValueDictionary[int, _Push] | None = connection.__dict__.get("_queue_app_pushes")
    if found is None:
        found = connection.__dict__["_queue_app_pushes"] = weakref.WeakValueDictionary()
    return found


class _Push:
    """The hook of one enqueue. The first one to run at the commit pushes for all that survived.

    Django drops the hooks of a savepoint that is rolled back, and tells no one. So the connection keeps weak
    references only: those still alive when the first hook runs are exactly those that committed.
    """

    __slots__ = ("__weakref__", "batch", "connection")

    def __init__(self, connection: BaseDatabaseWrapper, batch: Batch) -> None:
        self.connection = connection
        self.batch: Batch | None = batch

    def __call__(self) -> None:
        survivors = _survivors(self.connection)
        survivors[id(self)] = self  # where an earlier hook of this transaction has cleared it
        alive = list(survivors.values())
        survivors.clear()
        batches = [hook.batch for hook in alive if hook.batch is not None]
        for hook in alive:
            hook.batch = None
        if batches:
            push_committed(batches)


def push_committed(batches: list[Batch]) -> None:
    """Give committed jobs to Redis, except those whose time is far off: the record keeps these."""
    by_queue: dict[str, list[Entry]] = {}
    made = time.monotonic()
    for batch in batches:
        if batch.run_after is not None and not is_near(batch.run_after.timestamp()):
            continue
        made = min(made, batch.made)
        if batch.queue in by_queue:
            by_queue[batch.queue] += batch.entries
        else:
            by_queue[batch.queue] = batch.entries
    if not by_queue:
        return
    # After a long transaction, or a pause of this process, others may have pushed them already.
    if late := push.push_quietly(by_queue, made):
        release.restore_quietly([(entry[0], queue) for queue in late for entry in by_queue[queue]])
