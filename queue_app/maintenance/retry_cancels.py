"""Repeats requests to cancel that were not carried out, and ends those jobs that no child holds any more."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from queue_app.lifecycle import cancel
from queue_app.maintenance.duty import Duty, Walk
from queue_app.maintenance.leader_term import LeaderTerm


class RetryCancels(Duty):
    """Walks through the jobs that are to be cancelled and have not ended."""

    name = "cancel"
    interval = 5.0
    doc = "ends what was cancelled and has not ended"

    def __init__(self) -> None:
        self._walk: Walk[UUID] = Walk()

    def run(self, term: LeaderTerm) -> int:
        """Go on with the walk, or begin one.

        Returns:
            How many jobs ended.
        """
        if term.needs_rebuild:
            return 0  # it is not known which child holds what
        return self._walk.advance(term, partial(cancel.retry_requests_part, check=term.check))
