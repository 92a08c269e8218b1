"""Pushes new rows that were committed but never pushed."""

from __future__ import annotations

import logging

from queue_app.lifecycle.recovery.sweep import NewRowSweep
from queue_app.maintenance.duty import Duty
from queue_app.maintenance.leader_term import LeaderTerm

logger = logging.getLogger(__name__)


class SweepNew(Duty):
    """Looks at the rows that are new since the run before."""

    name = "sweep"
    interval = 3.0  # with SWEEP_GRACE and DUE_CHECK_SECONDS, a row is found within 10 s
    doc = "pushes new rows that were committed but never pushed"

    def __init__(self) -> None:
        self._sweep = NewRowSweep()
        self._token = 0

    def run(self, term: LeaderTerm) -> int:
        """Push the new rows that Redis does not know.

        Returns:
            How many jobs were missing.
        """
        if term.needs_rebuild:
            return 0  # the rebuild pushes them too
        if term.token > self._token + 1 or term.token < self._token:
            self._sweep.reset()  # another process may have led since
        self._token = term.token
        count = self._sweep.run(
            term.client, check=term.check, keep_alive=term.keep_alive, out_of_time=term.out_of_time
        )
        term.unfinished = self._sweep.unfinished
        if count:
            logger.warning("%d waiting jobs were missing in Redis and were pushed.", count)
        return count
