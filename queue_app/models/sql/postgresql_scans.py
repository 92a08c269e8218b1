"""Reads of waiting rows, for PostgreSQL: those of all queues at once, a look-up or two in their index for each queue;
what Redis is to carry of some."""

from __future__ import annotations

from itertools import starmap
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from queue_app.domain.envelope import HEAD, LEAST, Kind
from queue_app.domain.states import DISPATCHED, TIMED, UNFINISHED, JobState
from queue_app.models.sql.rows import WaitingJob

#: In the words of the partial index (queue, id).
_WAITING = "state IN ({})".format(", ".join(f"'{state}'" for state in sorted(UNFINISHED - TIMED)))
_READY = f"{_WAITING} AND state = '{JobState.QUEUED}'"

#: The rows are read in the order of the index, and only as many as there may be. The planner takes states for rarer
#: than they are, as the condition names them twice, and would rather read and sort all that a queue has.
_IN_ORDER = "; ".join(
    f"SET LOCAL {name} = off" for name in ("enable_seqscan", "enable_bitmapscan", "enable_sort", "jit")
)
#: Each step of the recursion looks up the next name. A limit outside ends it early.
_NAMES = f"""
WITH RECURSIVE names (queue) AS (
    (SELECT queue FROM queue_app_job WHERE {_WAITING} AND queue > %s ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (
        SELECT queue FROM queue_app_job WHERE {_WAITING} AND queue > names.queue ORDER BY queue LIMIT 1
    ) FROM names WHERE names.queue IS NOT NULL
)
SELECT queue FROM names WHERE queue IS NOT NULL LIMIT %s
"""  # noqa: S608 - constants
_NEWEST = f"""
SELECT found.queue, ARRAY(
    SELECT id::text FROM queue_app_job WHERE {_READY} AND queue = found.queue AND id >= %s AND id < %s
    ORDER BY queue_app_job.id DESC LIMIT %s
)
FROM ({_NAMES}) AS found
"""  # noqa: S608 - constants
_WALK = f"""
SELECT id::text, queue FROM queue_app_job WHERE {_READY} AND (queue, id) > (%s, %s) AND id < %s
ORDER BY queue_app_job.queue, queue_app_job.id LIMIT %s
"""  # noqa: S608 - constants
_OLDEST = f"""
SELECT given.queue, extract(epoch FROM (
    SELECT min(since) FROM (
        SELECT greatest(enqueued_at, run_after) AS since FROM queue_app_job WHERE {_READY} AND queue = given.queue
        ORDER BY id LIMIT %s
    ) AS first
))::float8
FROM unnest(%s::text[]) AS given (queue)
"""  # noqa: S608 - constants
_DISPATCHED = ", ".join(f"'{state}'" for state in sorted(DISPATCHED))
_LITERALS = {None: "NULL", False: "false"}
_AS_SQL = {Kind.PLAIN: "{0}", Kind.NEXT: "{0} + 1", Kind.TIME: "extract(epoch FROM {0})"}


def _array_of(count: int) -> str:
    """The first fields of a head as a JSON array."""
    return f"json_build_array({', '.join(_AS_SQL[f.kind].format(f.column) for f in HEAD[:count])})"


#: What is said at the end of a head only where it says something; the longest first.
_LONGER = " ".join(
    f"WHEN {HEAD[count - 1].column} IS DISTINCT FROM {_LITERALS[HEAD[count - 1].default]} THEN {_array_of(count)}"
    for count in range(len(HEAD), LEAST, -1)
)
#: In the order of `WaitingJob`; the payload stays behind when it is too long.
_BODIES = f"""
SELECT id::text, COALESCE(extract(epoch FROM run_after)::float8, 0),
    priority || ':' || lane || '|' || CASE {_LONGER} ELSE {_array_of(LEAST)} END::text,
    CASE WHEN char_length(payload) <= %s THEN payload END
FROM queue_app_job
WHERE id = ANY (%b::uuid[]) AND state IN ({_DISPATCHED}) AND cancel_requested_at IS NULL
FOR SHARE SKIP LOCKED
"""  # noqa: S608 - constants


def names_of_waiting(connection: BaseDatabaseWrapper, after: str, limit: int) -> list[str]:
    """The queues behind `after` ("" for the beginning) that have waiting rows, sorted; at most `limit`."""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(_IN_ORDER)
        cursor.execute(_NAMES, [after, limit])
        return [queue for (queue,) in cursor.fetchall()]


def newest_waiting(
    connection: BaseDatabaseWrapper, after: str, since: UUID, until: UUID, each: int, queues: int
) -> list[tuple[str, list[str]]]:
    """The queues behind `after` that have waiting rows, and the newest of those that say `queued`.

    Args:
        after: the name of a queue, "" for the beginning.
        since, until: the ids of the rows are at least `since` and less than `until`.
        each: most ids of a queue.
        queues: most queues.

    Returns:
        (queue, ids as text, newest first), sorted by queue; also of queues without such ids.
    """
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(_IN_ORDER)
        cursor.execute(_NEWEST, [since, until, each, after, queues])
        return cursor.fetchall()


def walk_waiting(
    connection: BaseDatabaseWrapper, after: tuple[str, UUID], until: UUID, limit: int
) -> list[tuple[str, str]]:
    """Rows that say `queued`, by queue and id.

    Args:
        after: the queue and the id to go on behind.
        until: the ids of the rows are less than this.
        limit: most rows.

    Returns:
        (id as text, queue).
    """
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(_IN_ORDER)
        cursor.execute(_WALK, [*after, until, limit])
        return cursor.fetchall()


def oldest_waiting(connection: BaseDatabaseWrapper, queues: list[str], first: int) -> dict[str, float]:
    """Since when the job has waited that has waited longest among the first waiting rows of each queue.

    Args:
        first: rows of a queue that are looked at, by id.

    Returns:
        Queue → epoch seconds; queues without such rows are left out.
    """
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(_IN_ORDER)
        cursor.execute(_OLDEST, [first, queues])
        return {queue: since for queue, since in cursor.fetchall() if since is not None}


def read_waiting(connection: BaseDatabaseWrapper, job_ids: list[str], limit: int) -> list[WaitingJob]:
    """What Redis is to carry of those of these jobs that wait, or wait for their next attempt. Left out are rows that
    another transaction has locked, as it may be cancelling them.

    Args:
        limit: longest payload that is read, in characters.
    """
    from queue_app.models.sql.binary import server_cursor, uuids

    with server_cursor(connection) as cursor:
        cursor.execute(_BODIES, [limit, uuids(job_ids)])
        return list(starmap(WaitingJob, cursor.fetchall()))
