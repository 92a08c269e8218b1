"""Pushes older rows that were never pushed, or that Redis has lost."""

from __future__ import annotations

import logging

from queue_app.lifecycle.recovery import rebuild, sweep
from queue_app.maintenance.duty import Duty
from queue_app.maintenance.leader_term import LeaderTerm

logger = logging.getLogger(__name__)

#: Rows looked at in one run. This costs a hundredth of a core, and a million rows take a quarter of an hour.
ROWS_PER_RUN = 10_000


class WalkBacklog(Duty):
    """Walks through all that waits, one part in each run. Each run also corrects the pauses of queues in Redis."""

    name = "backlog"
    interval = 8.0
    doc = "pushes older rows that Redis does not know, and corrects the pauses of queues"

    def __init__(self) -> None:
        self._position: sweep.BacklogPosition | None = None

    def run(self, term: LeaderTerm) -> int:
        """Do the next part of the walk, or begin one.

        Returns:
            How many jobs were missing.
        """
        if term.needs_rebuild:
            return 0
        rebuild.sync_pauses(term.client, term.check)
        count, self._position = sweep.push_missing_backlog(
            term.client,
            limit=ROWS_PER_RUN,
            after=self._position,
            check=term.check,
            keep_alive=term.keep_alive,
        )
        if count:
            logger.warning("%d waiting jobs were missing in Redis and were pushed.", count)
        return count
