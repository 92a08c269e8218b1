"""Release: load delayed jobs into Redis shortly before their time, promote them when it has come, and restore jobs
that Redis does not know."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import redis
from django.db import Error
from django.db.models import Q

from queue_app import clock, conf
from queue_app.dispatch import connection, finding, listing, queues
from queue_app.domain.states import TIMED, JobState
from queue_app.lifecycle.callbacks import Check, no_check
from queue_app.lifecycle.entries import entries_of_waiting, ids_by_queue
from queue_app.lifecycle.push import PUSH_TIMEOUT
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.models import Job
from queue_app.models.job import JobQuerySet
from queue_app.models.sql import write_alias

logger = logging.getLogger(__name__)

#: Most jobs in one round trip to Redis, and in one query for their rows.
JOBS_PER_PUSH = 2_000
#: Rows of delayed jobs in one part of a walk through them. If very many have the same time, the database sorts all of
#: these for each part.
ROWS_PER_STEP = 10_000


class Position(NamedTuple):
    """Where a walk through the rows of delayed jobs stands: behind the row with this time and id."""

    at: datetime
    id: UUID


def load_due(
    client: redis.Redis, *, after: datetime | None = None, limit: int | None = None, check: Check = no_check
) -> int:
    """Load jobs whose time is near into Redis, soonest first, unless it knows them.

    Args:
        after: leave out jobs whose time is before this: an earlier call loaded them.
        limit: most rows looked at; None: all.
        check: called before each batch of writes.

    Returns:
        How many were missing in Redis.
    """
    until = horizon()
    count, position = load_due_part(client, until, start=after, limit=limit or ROWS_PER_STEP, check=check)
    while position is not None and limit is None:
        loaded, position = load_due_part(client, until, position, check=check)
        count += loaded
    return count


def horizon() -> datetime:
    """Jobs whose time is before this belong into Redis."""
    return clock.now() + timedelta(seconds=conf.get().DUE_HORIZON)


def load_due_part(
    client: redis.Redis,
    until: datetime,
    after: Position | None = None,
    *,
    start: datetime | None = None,
    limit: int = ROWS_PER_STEP,
    check: Check = no_check,
    keep_alive: Check = no_check,
) -> tuple[int, Position | None]:
    """A part of `load_due`.

    Args:
        until: the latest time.
        after: go on behind this position; None: begin at `start`, or at the beginning.
        limit: most rows looked at.
        check: called before each batch of writes.
        keep_alive: called in every loop.

    Returns:
        How many were missing in Redis, and the next position; None at the end.
    """
    # All rows at once: a server-side cursor costs five round trips, and mostly there are no rows.
    found = list(_delayed(until, after, start).values_list("run_after", "pk", "queue")[:limit])
    count = restore_missing(
        client, [(pk, queue) for _, pk, queue in found], check=check, keep_alive=keep_alive
    )
    return count, _position_behind(found, limit)


def queues_of_near(check: Check) -> set[str]:
    """The queues of the jobs whose time is near, also by a clock of another host that is ahead.

    Args:
        check: called before each part of the walk through them.
    """
    until = horizon() + timedelta(seconds=conf.get().DUE_HORIZON)
    names: set[str] = set()
    position: Position | None = None
    while True:
        check()
        found = list(_delayed(until, position).values_list("run_after", "pk", "queue")[:ROWS_PER_STEP])
        names.update(queue for _, _, queue in found)
        position = _position_behind(found, ROWS_PER_STEP)
        if position is None:
            return names


def _delayed(until: datetime, after: Position | None, start: datetime | None = None) -> JobQuerySet:
    rows = Job.objects.using(write_alias()).timed().filter(run_after__lte=until)
    if after is not None:
        # The second condition follows from the first; with it, the index is entered at this time.
        rows = rows.filter(Q(run_after__gt=after.at) | Q(pk__gt=after.id), run_after__gte=after.at)
    elif start is not None:
        rows = rows.filter(run_after__gte=start)
    return rows.order_by("run_after", "pk")


def _position_behind(found: Sequence[tuple[datetime | None, UUID, str]], limit: int) -> Position | None:
    if len(found) < limit:
        return None
    at, pk, _ = found[-1]
    return None if at is None else Position(at, pk)  # never None: a delayed job has a time


def restore(
    client: redis.Redis,
    found: Iterable[tuple[UUID | str, str]],
    check: Check = no_check,
    left: list[tuple[UUID | str, str]] | None = None,
) -> int:
    """Push jobs that Redis does not know, neither waiting nor held, if their rows still wait.

    Redis is asked first, and the rows are read after that. A job that was settled meanwhile is unknown to Redis. Its
    row was changed before that, so it is seen as finished and not run again. Cancelled jobs are left out. Redis stamps
    what it does not know: if several processes push the same job, only one succeeds (dispatch/lua/find.lua).

    Args:
        found: (id, queue) of rows that were waiting a moment ago.
        check: called before each batch of writes.
        left: jobs are added to it whose row another transaction has locked, or that no longer wait.

    Returns:
        How many were missing.

    Raises:
        DataLost: it is not known which jobs run, so nothing is pushed.
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
    """`restore` of at most `JOBS_PER_PUSH` jobs: a few round trips, in however many queues they are."""
    missing = finding.missing(client, ids_by_queue(part))
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
    check: Check = no_check,
    keep_alive: Check = no_check,
    left: list[tuple[UUID | str, str]] | None = None,
) -> int:
    """`restore` of many rows, most of which Redis knows.

    Args:
        found: (id, queue) of rows that were waiting a moment ago.
        check: called before each batch of writes.
        keep_alive: called for each batch.
        left: as for `restore`.

    Returns:
        How many were missing.
    """
    count = 0
    for begin in range(0, len(found), JOBS_PER_PUSH):
        keep_alive()
        count += restore(client, found[begin : begin + JOBS_PER_PUSH], check, left)
    return count


def unknown(client: redis.Redis, found: Iterable[tuple[UUID | str, str]]) -> list[tuple[str, str]]:
    """The jobs of a batch that Redis does not know; one round trip.

    Args:
        found: (id, queue) of each job.

    Returns:
        (id, queue) of the unknown ones, by queue.

    Raises:
        DataLost: it is not known which jobs run.
    """
    missing = listing.unknown(client, ids_by_queue(found))
    return [(job_id, queue) for queue, ids in missing.items() for job_id in ids]


def restore_quietly(found: Iterable[tuple[UUID | str, str]]) -> None:
    """`restore` after a commit. A failure of a store is not raised: the leader pushes these jobs later."""
    try:
        restore(connection.client(PUSH_TIMEOUT), found)
    except connection.Unavailable as error:
        breaker.failed(error)
    except Error as error:
        logger.warning("Committed jobs could not be read; the sweep will push them: %s", str(error).strip())


def promote_due(client: redis.Redis, *, check: Check = no_check) -> int:
    """Change the rows of delayed jobs whose time has come to `queued`. Under load, most have run before.

    Args:
        check: called before each batch of writes.

    Returns:
        How many rows were changed.
    """
    until = clock.now()
    count, position = promote_due_part(client, until, check=check)
    while position is not None:
        promoted, position = promote_due_part(client, until, position, check=check)
        count += promoted
    return count


def promote_due_part(
    client: redis.Redis, until: datetime, after: Position | None = None, *, check: Check = no_check
) -> tuple[int, Position | None]:
    """A part of `promote_due`, soonest first. Jobs that Redis does not know are loaded first: once their rows say
    `queued`, only the slow walk through the backlog would find them.

    Args:
        until: the latest time that has come.
        after: go on behind this position; None: from the beginning.
        check: called before each batch of writes.

    Returns:
        How many rows were changed, and the next position; None at the end.
    """
    found = list(_delayed(until, after).values_list("run_after", "pk", "queue")[:JOBS_PER_PUSH])
    if not found:
        return 0, None
    missing = unknown(client, [(pk, queue) for _, pk, queue in found])
    if missing:
        restore(client, missing, check)
        missing = unknown(client, missing)  # these are being cancelled, or no longer wait
    still_missing = {job_id for job_id, _ in missing}
    known = [pk for _, pk, _ in found if str(pk) not in still_missing]
    if not known:
        return 0, _position_behind(found, JOBS_PER_PUSH)
    check()
    rows = Job.objects.using(write_alias()).filter(pk__in=known, state__in=sorted(TIMED))
    return rows.update(state=JobState.QUEUED), _position_behind(found, JOBS_PER_PUSH)
