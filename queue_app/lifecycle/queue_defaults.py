"""What operators have set for each queue, remembered for a few seconds so that an enqueue needs no query."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.signals import post_delete, post_save

from queue_app.models.queue import Queue

#: Seconds that a change of a queue's row takes, at most, to reach every process.
MAX_AGE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a queue's row says of jobs whose task says nothing.

    Attributes:
        timeout: seconds.
    """

    max_attempts: int | None = None
    timeout: float | None = None


_NONE = Defaults()


class _Snapshot(NamedTuple):
    """All rows of one database.

    Attributes:
        read_at: when they were read, on the monotonic clock.
        rows: queue → its defaults.
    """

    read_at: float
    rows: dict[str, Defaults]


class QueueDefaults:
    """The defaults of all queues, read at most once in `MAX_AGE_SECONDS` from each database."""

    def __init__(self) -> None:
        self._snapshots: dict[str, _Snapshot] = {}  # by database alias

    def reset(self) -> None:
        """Read again at the next use."""
        self._snapshots = {}

    def of(self, queue: str, connection: BaseDatabaseWrapper) -> Defaults:
        """The defaults of a queue.

        Args:
            connection: of the database that has the rows of queues.

        Returns:
            Empty defaults where the queue has no row. While the database cannot be read, the last that was read.
        """
        found = self._snapshots.get(connection.alias)
        if found is None or time.monotonic() - found.read_at > MAX_AGE_SECONDS:
            rows = _read(connection)
            if rows is None:
                rows = found.rows if found is not None else {}
            found = self._snapshots[connection.alias] = _Snapshot(time.monotonic(), rows)
        return found.rows.get(queue, _NONE)


def _read(connection: BaseDatabaseWrapper) -> dict[str, Defaults] | None:
    """The defaults of all queues that have a row; None if they cannot be read."""
    try:
        # In a savepoint where there is a transaction, so that a failure here cannot break the caller's.
        with transaction.atomic(using=connection.alias) if connection.in_atomic_block else nullcontext():
            rows = Queue.objects.using(connection.alias).values_list("name", "max_attempts", "timeout")
            return {name: Defaults(max_attempts, timeout) for name, max_attempts, timeout in rows}
    except Error:
        return None


#: Those of this process. All threads share them.
queue_defaults = QueueDefaults()


def _on_queue_changed(**_: object) -> None:
    queue_defaults.reset()


post_save.connect(_on_queue_changed, sender=Queue, dispatch_uid="queue_app.queue_defaults.save")
post_delete.connect(_on_queue_changed, sender=Queue, dispatch_uid="queue_app.queue_defaults.delete")
