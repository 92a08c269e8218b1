"""Prune: finished jobs, workers that stopped long ago and old audit events leave the record when their time is over."""

from __future__ import annotations

from uuid import UUID

from queue_app.lifecycle import prune
from queue_app.maintenance.duty import Duty, LeaderTerm

#: Parts with nothing to delete, one after the other, that one run looks at.
VAIN = 5


class Pruning:
    """Walks through the record, a few parts in each run."""

    def __init__(self) -> None:
        self._behind: UUID | None = None

    def run(self, term: LeaderTerm) -> int:
        """Walk on, batch by batch, while there is something to delete and time is left.

        Returns:
            How many rows were deleted.
        """
        count, vain = 0, 0
        while vain < VAIN:
            term.keep()
            found, self._behind = prune.some(self._behind, check=term.check)
            count += found
            if self._behind is None:
                count += prune.workers(check=term.check) + prune.audit_events(check=term.check)
                break
            vain = 0 if found else vain + 1
            if term.over:
                term.unfinished = count > 0
                break
        return count


PRUNE = Duty(
    "prune",
    30.0,
    Pruning().run,
    "deletes finished jobs, stopped workers and audit events whose retention is over",
)
