"""Release: what waits for a time goes into Redis shortly before it; rows whose time has come say `queued`."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

import redis
from django.db import Error

from queue_app import clock, conf
from queue_app.dispatch import connection, queues
from queue_app.lifecycle import dispatching
from queue_app.models import Job
from queue_app.models.bulk import write_alias
from queue_app.states import TIMED, JobState

logger = logging.getLogger(__name__)

#: Rows looked at in one go.
CHUNK = 2_000
#: Rows that one call lets say `queued`.
SAY = 5_000

#: Called before each batch of writes; raises when the caller may not go on (a leader that was deposed).
Check = Callable[[], None]


def unchecked() -> None:
    """The check of those who need nobody's leave."""


def load_due(
    client: redis.Redis, *, after: datetime | None = None, limit: int = 50_000, check: Check = unchecked
) -> int:
    """Load jobs whose time is near into Redis, soonest first, unless it knows them.

    Args:
        after: leave out those whose time is before this: they were loaded by an earlier call.
        limit: most rows looked at.
        check: asked before each batch of writes.

    Returns:
        How many were missing in Redis.
    """
    horizon = clock.now() + timedelta(seconds=conf.get().DUE_HORIZON)
    rows = Job.objects.using(write_alias()).timed().filter(run_after__lte=horizon).order_by("run_after")
    if after is not None:
        rows = rows.filter(run_after__gte=after)
    # All at once: a server-side cursor costs five round trips where there is mostly nothing.
    return restore(client, list(rows.values_list("pk", "queue")[:limit]), check)


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
    while part := list(islice(rows, CHUNK)):
        count += _restore_some(client, part, check, left)
    return count


def _restore_some(
    client: redis.Redis,
    part: list[tuple[UUID | str, str]],
    check: Check,
    left: list[tuple[UUID | str, str]] | None,
) -> int:
    """The same of at most CHUNK jobs: a few round trips, however many queues they are in."""
    by_queue: dict[str, list[str]] = defaultdict(list)
    for pk, queue in part:
        by_queue[queue].append(str(pk))
    missing = queues.missing(client, by_queue)
    wanted = [job_id for job_ids, _ in missing.values() for job_id in job_ids]
    if not wanted:
        return 0
    entries = {entry[0]: entry for entry in dispatching.entries_of_waiting(wanted)}
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


def restore_quietly(found: Iterable[tuple[UUID | str, str]]) -> None:
    """`restore` after a commit: a failure of a store is noted, and left to the reconciler."""
    try:
        restore(connection.client(dispatching.PUSH_TIMEOUT), found)
    except connection.Unavailable as error:
        dispatching.redis_failed(error)
    except Error as error:
        logger.warning("Committed jobs could not be read, and are left to the sweep: %s", str(error).strip())


def say_queued(*, limit: int = SAY, check: Check = unchecked) -> int:
    """Let rows that wait for a time that has come say `queued`; under load most are run before this sees them.

    Args:
        limit: most rows changed.
        check: asked before the rows are written.

    Returns:
        How many rows were changed.
    """
    using = write_alias()
    due = Job.objects.using(using).timed().filter(run_after__lte=clock.now()).order_by("run_after")
    ids = list(due.values_list("pk", flat=True)[:limit])
    if not ids:
        return 0
    check()
    return Job.objects.using(using).filter(pk__in=ids, state__in=sorted(TIMED)).update(state=JobState.QUEUED)
