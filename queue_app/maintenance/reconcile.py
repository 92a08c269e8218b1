"""Reconcile: whatever Redis lost or never got is pushed again from the record."""

from __future__ import annotations

import logging
from uuid import UUID

import redis

from queue_app.lifecycle import recover
from queue_app.maintenance.duty import Duty

logger = logging.getLogger(__name__)

_behind: UUID | None = None


def rebuild(client: redis.Redis, worker_id: str) -> int:
    """If Redis lost its data, put back all that waits.

    Returns:
        How many jobs were put back.
    """
    count = recover.rebuild(client)
    if count:
        logger.warning("Redis had lost its data: %d waiting jobs were put back.", count)
    return count or 0


def sweep(client: redis.Redis, worker_id: str) -> int:
    """Push rows that were committed but never pushed; a part of a long backlog each time.

    Returns:
        How many jobs were missing.
    """
    global _behind
    count, _behind = recover.sweep(client, after=_behind)
    if count:
        logger.warning("%d waiting jobs were missing in Redis and were pushed.", count)
    return count


def orphans(client: redis.Redis, worker_id: str) -> int:
    """Rows that say `running` although nobody holds them.

    Returns:
        How many jobs were delivered again.
    """
    return recover.orphans(client)


REBUILD = Duty("rebuild", 1.5, rebuild)
SWEEP = Duty("sweep", 4.0, sweep)
ORPHANS = Duty("orphans", 20.0, orphans)
