"""Reconcile: whatever Redis lost or never got is pushed again from the record."""

from __future__ import annotations

import logging
import time
from uuid import UUID

import redis

from queue_app.lifecycle import recover
from queue_app.maintenance.duty import Duty

logger = logging.getLogger(__name__)

_behind: UUID | None = None
_empty_since: float | None = None

#: Seconds between finding Redis empty and pushing: living workers announce what they run meanwhile.
ANNOUNCING = 2.0


def rebuild(client: redis.Redis, worker_id: str) -> int:
    """If Redis lost its data, put back all that waits.

    Returns:
        How many jobs were put back.
    """
    global _empty_since
    if not recover.lost_its_data(client):
        _empty_since = None
        return 0
    if _empty_since is None:
        _empty_since = time.monotonic()
    if time.monotonic() - _empty_since < ANNOUNCING:
        return 0
    count = recover.rebuild(client)
    _empty_since = None
    if count:
        logger.warning("Redis had lost its data: %d waiting jobs were put back.", count)
    return count


def sweep(client: redis.Redis, worker_id: str) -> int:
    """Push rows that were committed but never pushed; a part of a long backlog each time.

    Returns:
        How many jobs were missing.
    """
    global _behind
    if recover.lost_its_data(client):
        return 0  # the rebuild comes first, and does the same
    recover.sync_pauses(client)
    count, _behind = recover.sweep(client, after=_behind)
    if count:
        logger.warning("%d waiting jobs were missing in Redis and were pushed.", count)
    return count


def orphans(client: redis.Redis, worker_id: str) -> int:
    """Rows that say `running` although nobody holds them.

    Returns:
        How many jobs were delivered again.
    """
    if recover.lost_its_data(client):
        return 0  # their holders have not been announced again
    return recover.orphans(client)


REBUILD = Duty("rebuild", 0.8, rebuild)
SWEEP = Duty("sweep", 4.0, sweep)
ORPHANS = Duty("orphans", 20.0, orphans)
