"""Release: what waits for a time goes into Redis shortly before it; rows whose time has come say `queued`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import redis
from django.db import Error
from django.db.models import Q

from queue_app import clock, conf
from queue_app.dispatch import connection, listing, queues
from queue_app.domain.states import TIMED, JobState
from queue_app.lifecycle.entries import entries_of_waiting, ids_by_queue
from queue_app.lifecycle.push import PUSH_TIMEOUT
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.models import Job
from queue_app.models.job import JobQuerySet
from queue_app.models.sql import write_alias

logger = logging.getLogger(__name__)

#: Rows looked at in one go.
JOBS_PER_PUSH = 2_000
#: Rows that wait for a time, in one part of the walk through them. Where very many have the same time, the database
#: sorts them all for each part.
ROWS_PER_STEP = 10_000

#: Called before each batch of writes; raises when the caller may not go on (a leader that was deposed).
Check = Callable[[], None]


def unchecked() -> None:
    """The check of callers that need no leadership."""


class Place(NamedTuple):
    """A place among the rows that wait for a time: the time, and the row."""

    at: datetime
    id: UUID


def load_due(
    client: redis.Redis, *, after: datetime | None = None, limit: int | None = None, check: Check = unchecked
) -> int:
    """Load jobs whose time is near into Redis, soonest first, unless it knows them.

    Args:
        after: leave out those whose time is before this: they were loaded by an earlier call.
        limit: most rows looked at; None: all.
        check: asked before each batch of writes.

    Returns:
        How many were missing in Redis.
    """
    until = horizon()
    count, place = load_some(client, until, start=after, limit=limit or ROWS_PER_STEP, check=check)
    while place is not None and limit is None:
        found, place = load_some(client, until, place, check=check)
        count += found
    return count


def horizon() -> datetime:
    """The latest time that is near: jobs whose time is before it belong into Redis."""
    return clock.now() + timedelta(seconds=conf.get().DUE_HORIZON)


def load_some(
    client: redis.Redis,
    until: datetime,
    after: Place | None = None,
    *,
    start: datetime | None = None,
    limit: int = ROWS_PER_STEP,
    check: Check = unchecked,
    keep: Check = unchecked,
) -> tuple[int, Place | None]:
    """A part of `load_due`.

    Args:
        until: the latest time.
        after: go on behind this place; None: from `start` on, or from the beginning.
        limit: most rows looked at.
        check: asked before each batch of writes.
        keep: called in every loop.

    Returns:
        How many were missing in Redis, and the place to go on behind; None when the end was reached.
    """
    # All at once: a server-side cursor costs five round trips where there is mostly nothing.
    found = list(_timed(until, after, start).values_list("run_after", "pk", "queue")[:limit])
    count = restore_missing(client, [(pk, queue) for _, pk, queue in found], check=check, keep=keep)
    return count, _place(found, limit)


def queues_of_near(check: Check) -> set[str]:
    """The queues of the jobs whose time is near, or may be by the clock of another host.

    Args:
        check: called before each part of the walk through them.
    """
    until = horizon() + timedelta(seconds=conf.get().DUE_HORIZON)
    names: set[str] = set()
    place: Place | None = None
    while True:
        check()
        found = list(_timed(until, place).values_list("run_after", "pk", "queue")[:ROWS_PER_STEP])
        names.update(queue for _, _, queue in found)
        place = _place(found, ROWS_PER_STEP)
        if place is None:
            return names


def _timed(until: datetime, after: Place | None, start: datetime | None = None) -> JobQuerySet:
    rows = Job.objects.using(write_alias()).timed().filter(run_after__lte=until)
    if after is not None:
        # Said twice, so that the index is entered at this time.
        rows = rows.filter(Q(run_after__gt=after.at) | Q(pk__gt=after.id), run_after__gte=after.at)
    elif start is not None:
        rows = rows.filter(run_after__gte=start)
    return rows.order_by("run_after", "pk")


def _place(found: Sequence[tuple[datetime | None, UUID, str]], limit: int) -> Place | None:
    if len(found) < limit:
        return None
    at, pk, _ = found[-1]
    return None if at is None else Place(at, pk)  # a row that waits for a time has one


def restore(
    client: redis.Redis,
    found: Iterable[tuple[UUID | str, str]],
    check: Check = unchecked,
    left: list[tuple[UUID | str, str]] | None = None,
) -> int:
    """Push jobs unless Redis knows them, waiting or held, or their rows have moved on meanwhile.

    Redis is asked first and the rows are read after that: a job that Redis no longer knows because it was settled
    had its row changed before, so it is seen as finished and not run again. What was cancelled is left out. Redis
    stamps what it does not know, so that of several processes that push one job only one does (dispatch/lua/find.lua).

    Args:
        found: (id, queue) of rows that were waiting a moment ago.
        check: asked before each batch of writes.
        left: takes those that another transaction changes at this moment, or that no longer wait.

    Returns:
        How many were missing.

    Raises:
        DataLost: it is not known at present what runs; nothing is pushed until it is.
        Full: Redis has no room for them. They stay in the record.
    """
    count = 0
    rows = iter(found)
    while part := list(islice(rows, JOBS_PER_PUSH)):
        count += _restore_some(client, part, check, left)
    return count


def _restore_some(
    client: redis.Redis,
    part: list[tuple[UUID | str, str]],
    check: Check,
    left: list[tuple[UUID | str, str]] | None,
) -> int:
    """The same of at most CHUNK jobs: a few round trips, however many queues they are in."""
    missing = queues.missing(client, ids_by_queue(part))
    wanted = [job_id for job_ids, _ in missing.values() for job_id in job_ids]
    if not wanted:
        return 0
    entries = {entry[0]: entry for entry in entries_of_waiting(wanted)}
    if left is not None:
        left += [(i, queue) for queue, (ids, _) in missing.items() for i in ids if i not in entries]
    check()
    return queues.restore(
        client,
        {
            queue: ([entries[job_id] for job_id in job_ids if job_id in entries], stamp)
            for queue, (job_ids, stamp) in missing.items()
        },
    )


def restore_missing(
    client: redis.Redis,
    found: Sequence[tuple[UUID | str, str]],
    *,
    check: Check = unchecked,
    keep: Check = unchecked,
    left: list[tuple[UUID | str, str]] | None = None,
) -> int:
    """`restore` of many rows, most of which Redis knows.

    Args:
        found: (id, queue) of rows that were waiting a moment ago.
        check: asked before each batch of writes.
        keep: called for each batch.
        left: as for `restore`.

    Returns:
        How many were missing.
    """
    count = 0
    for begin in range(0, len(found), JOBS_PER_PUSH):
        keep()
        count += restore(client, found[begin : begin + JOBS_PER_PUSH], check, left)
    return count


def unknown(client: redis.Redis, found: Iterable[tuple[UUID | str, str]]) -> list[tuple[str, str]]:
    """Those of a batch of (id, queue) that Redis does not know, by queue; one round trip.

    Raises:
        DataLost: it is not known at present what runs.
    """
    missing = listing.unknown(client, ids_by_queue(found))
    return [(job_id, queue) for queue, ids in missing.items() for job_id in ids]


def restore_quietly(found: Iterable[tuple[UUID | str, str]]) -> None:
    """`restore` after a commit: a failure of a store is noted, and left to the reconciler."""
    try:
        restore(connection.client(PUSH_TIMEOUT), found)
    except connection.Unavailable as error:
        breaker.failed(error)
    except Error as error:
        logger.warning("Committed jobs could not be read, and are left to the sweep: %s", str(error).strip())


def promote_due(client: redis.Redis, *, check: Check = unchecked) -> int:
    """Let rows that wait for a time that has come say `queued`; under load most are run before this sees them.

    Args:
        check: asked before the rows are written.

    Returns:
        How many rows were changed.
    """
    until = clock.now()
    count, place = say_some(client, until, check=check)
    while place is not None:
        found, place = say_some(client, until, place, check=check)
        count += found
    return count


def say_some(
    client: redis.Redis, until: datetime, after: Place | None = None, *, check: Check = unchecked
) -> tuple[int, Place | None]:
    """A part of `promote_due`, soonest first. Rows that Redis does not know are loaded before: once they say `queued`,
    the only thing that finds them is the slow walk through the backlog.

    Args:
        until: the latest time that has come.
        after: go on behind this place; None: from the beginning.
        check: asked before each batch of writes.

    Returns:
        How many rows were changed, and the place to go on behind; None when the end was reached.
    """
    found = list(_timed(until, after).values_list("run_after", "pk", "queue")[:JOBS_PER_PUSH])
    if not found:
        return 0, None
    missing = unknown(client, [(pk, queue) for _, pk, queue in found])
    if missing:
        restore(client, missing, check)
        missing = unknown(client, missing)  # those that are being cancelled, or have moved on
    without = {job_id for job_id, _ in missing}
    known = [pk for _, pk, _ in found if str(pk) not in without]
    if not known:
        return 0, _place(found, JOBS_PER_PUSH)
    check()
    rows = Job.objects.using(write_alias()).filter(pk__in=known, state__in=sorted(TIMED))
    return rows.update(state=JobState.QUEUED), _place(found, JOBS_PER_PUSH)
