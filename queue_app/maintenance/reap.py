"""Reap: take over from workers whose heartbeat is older than the lease."""

from __future__ import annotations

import redis

from queue_app.lifecycle import recover
from queue_app.maintenance.duty import Duty


def run(client: redis.Redis, worker_id: str) -> int:
    """Bury the silent.

    Returns:
        How many workers were buried.
    """
    return recover.reap(client, worker_id)


REAP = Duty("reap", 2.0, run)
