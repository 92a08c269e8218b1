"""The summaries of the search index of jobs, on PostgreSQL.

The index (BRIN, with the bloom operator class) keeps a summary of each four pages of the table. It says between which
times the jobs there were enqueued. A filter says, nearly, which tasks and queues they have. So the index is small. Two
things it does not do by itself:

* Pages that were never full of rows before have no summary until a vacuum comes, and count as a match for everything.
* A summary only grows. Where deleted jobs have made room for others it knows the old ones still, and excludes little.
"""

from __future__ import annotations

from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

#: The index, and the pages of one summary, as migration 0004 makes them.
INDEX = "queue_app_job_search"
PAGES = 4

#: Milliseconds. A vacuum of the table holds the same lock, and would be cancelled if we waited for it for a second. And
#: the leader, who calls this, has other duties; what was summarized in this time stays.
_LIMITS = "SET LOCAL lock_timeout = 200; SET LOCAL statement_timeout = 2000"
#: The lock, and the time.
_OVER = ("55P03", "57014")
#: Nothing if the index is not there, or belongs to another role: PostgreSQL lets its owner alone do this.
_NEW = """
SELECT brin_summarize_new_values(oid) FROM pg_class
WHERE oid = to_regclass(%s) AND pg_has_role(relowner, 'USAGE')
"""
_AGAIN = """
SELECT brin_desummarize_range(oid, block), brin_summarize_range(oid, block)
FROM pg_class JOIN pg_index ON indexrelid = oid, LATERAL (
    SELECT DISTINCT floor(random() * pages / %s)::bigint * %s AS block
    FROM generate_series(1, %s),
        (SELECT pg_relation_size(indrelid) / current_setting('block_size')::int AS pages) AS size
    WHERE pages > 0
) AS chosen
WHERE oid = to_regclass(%s) AND pg_has_role(relowner, 'USAGE')
"""


def refresh(connection: BaseDatabaseWrapper, again: int = 64) -> int:
    """Summarize what has no summary, and some of the rest anew, chosen at random. Does nothing elsewhere than on
    PostgreSQL, and while the table is being vacuumed.

    Args:
        again: how many summaries are made anew.

    Returns:
        How many were made.
    """
    if connection.vendor != "postgresql":
        return 0
    try:
        with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
            cursor.execute(_LIMITS)
            cursor.execute(_NEW, [INDEX])
            new = sum(count for (count,) in cursor.fetchall())
            cursor.execute(_AGAIN, [PAGES, PAGES, again, INDEX])
            return new + len(cursor.fetchall())
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) in _OVER:
            return 0
        raise
