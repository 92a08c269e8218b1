"""Reap: take over from workers whose heartbeat is older than the lease."""

from __future__ import annotations

from queue_app.lifecycle import recover
from queue_app.maintenance.duty import Duty, Mandate


def run(mandate: Mandate) -> int:
    """Bury the silent.

    Returns:
        How many workers were buried.
    """
    return recover.reap(mandate.client, mandate.leader_id, mandate.check)


REAP = Duty("reap", 2.0, run, "takes over what workers without a heartbeat held")
