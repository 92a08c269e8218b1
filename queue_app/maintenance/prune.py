"""Prune: finished jobs leave the record when their time is over."""

from __future__ import annotations

from queue_app.lifecycle import prune
from queue_app.maintenance.duty import Duty, Mandate


def run(mandate: Mandate) -> int:
    """Delete one batch.

    Returns:
        How many jobs were deleted.
    """
    return prune.prune(check=mandate.check)


PRUNE = Duty("prune", 30.0, run, "deletes finished jobs whose retention is over")
