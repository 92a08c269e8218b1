"""Promote: delayed jobs go into Redis shortly before their time; rows whose time has come say `queued`."""

from __future__ import annotations

import redis

from queue_app.lifecycle import recover, release
from queue_app.maintenance.duty import Duty


def run(client: redis.Redis, worker_id: str) -> int:
    """Load what is due soon.

    Returns:
        How many jobs were loaded.
    """
    if recover.lost_its_data(client):
        return 0  # the rebuild comes first
    return release.load_due(client)


def say(client: redis.Redis, worker_id: str) -> int:
    """Let rows that wait for a time that has come say so.

    Returns:
        How many rows were changed.
    """
    return release.say_queued()


#: The shortest DUE_HORIZON allowed is twice as long.
LOAD = Duty("promote", 5.0, run)
SAY = Duty("say_queued", 5.0, say)
