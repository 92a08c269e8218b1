"""What operators have said of queues, kept for a few seconds so that an enqueue needs no query."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass

from django.db import Error, transaction
from django.db.models.signals import post_delete, post_save

from queue_app.models.queue import Queue
from queue_app.models.sql import write_connection

#: Seconds that a change of a queue's row takes, at most, to reach every process.
FRESH = 5.0


@dataclass(frozen=True, slots=True)
class Defaults:
    max_attempts: int | None = None
    timeout: float | None = None


_NONE = Defaults()
_read_at = float("-inf")
_rows: dict[str, Defaults] = {}


def of(queue: str) -> Defaults:
    """The defaults of a queue; empty ones where it has no row."""
    global _read_at, _rows
    if time.monotonic() - _read_at > FRESH:
        try:
            # In a savepoint where there is a transaction, so that a failure here cannot break the caller's.
            connection = write_connection()
            with transaction.atomic(using=connection.alias) if connection.in_atomic_block else nullcontext():
                rows = list(
                    Queue.objects.using(connection.alias).values_list("name", "max_attempts", "timeout")
                )
        except Error:
            rows = None
        if rows is not None:
            _rows = {name: Defaults(attempts, timeout) for name, attempts, timeout in rows}
        _read_at = time.monotonic()
    return _rows.get(queue, _NONE)


def forget(**_: object) -> None:
    """Read again at the next use."""
    global _read_at
    _read_at = float("-inf")


post_save.connect(forget, sender=Queue, dispatch_uid="queue_app.queue_defaults.save")
post_delete.connect(forget, sender=Queue, dispatch_uid="queue_app.queue_defaults.delete")
