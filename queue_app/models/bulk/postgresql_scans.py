"""Reads of the waiting rows of all queues at once, for PostgreSQL: a look-up or two in their index for each queue."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from queue_app.states import TIMED, UNFINISHED, JobState

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
