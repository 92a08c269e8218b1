"""Prune: finished jobs leave the record when their time is over."""

from __future__ import annotations

import redis

from queue_app.lifecycle import prune
from queue_app.maintenance.duty import Duty


def run(client: redis.Redis, worker_id: str) -> int:
    """Delete one batch.

    Returns:
        How many jobs were deleted.
    """
    return prune.prune()


PRUNE = Duty("prune", 30.0, run)
