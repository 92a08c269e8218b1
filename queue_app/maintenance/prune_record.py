"""Deletes finished jobs, stopped workers and audit events from the record when their retention is over."""

from __future__ import annotations

from uuid import UUID

from queue_app.lifecycle import prune
from queue_app.maintenance.duty import Duty
from queue_app.maintenance.leader_term import LeaderTerm

#: Parts with nothing to delete, one after the other, that one run looks at.
MAX_EMPTY_PARTS = 5


class PruneRecord(Duty):
    """Walks through the record, a few parts in each run."""

    name = "prune"
    interval = 30.0
    doc = "deletes finished jobs, stopped workers and audit events whose retention is over"

    def __init__(self) -> None:
        self._position: UUID | None = None

    def run(self, term: LeaderTerm) -> int:
        """Walk on, part by part, while there is something to delete and time is left.

        Returns:
            How many rows were deleted.
        """
        count, empty_parts = 0, 0
        while empty_parts < MAX_EMPTY_PARTS:
            term.keep_alive()
            deleted, self._position = prune.prune_jobs_part(self._position, check=term.check)
            count += deleted
            if self._position is None:
                count += prune.prune_workers(check=term.check) + prune.prune_audit_events(check=term.check)
                break
            empty_parts = 0 if deleted else empty_parts + 1
            if term.out_of_time():
                term.unfinished = count > 0
                break
        return count
