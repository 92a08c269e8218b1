"""Bulk SQL, one module for each database vendor; the generic one uses the ORM alone. Chosen here and nowhere else.

Every module has the same functions:

    insert_jobs(connection, jobs)                         write new rows
    end_attempts(connection, endings, worker_id) -> Accepted   the guarded write of outcomes; which ones counted
    mark_running(connection, starts, worker_id)           say `running` of rows whose attempt is under way
    read_waiting(connection, ids, limit) -> list[Waiting]  what Redis is to carry of rows that wait
    names_of_waiting(connection, after, limit)            the queues that have waiting rows
    newest_waiting(connection, after, since, until, each, queues)  the newest waiting rows of all queues
    walk_waiting(connection, after, until, limit)         waiting rows by queue and id
    oldest_waiting(connection, queues, first)             since when the first of each queue wait
"""

from __future__ import annotations

from types import ModuleType

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from queue_app.models.sql import generic, postgresql


def for_vendor(connection: BaseDatabaseWrapper) -> ModuleType:
    """The module for this connection's vendor."""
    if connection.vendor == "postgresql" and postgresql.AVAILABLE:
        return postgresql
    return generic


def write_alias() -> str:
    """The database alias that the router gives for writing jobs: whose transaction an enqueue joins."""
    from queue_app.models.job import Job

    return router.db_for_write(Job)


def write_connection() -> BaseDatabaseWrapper:
    """This thread's connection for writing jobs."""
    return connections[write_alias()]
