"""Reconcile: jobs that Redis lost or never got are pushed again from the record."""

from __future__ import annotations

import logging
from functools import partial
from uuid import UUID

from queue_app.lifecycle.recovery import orphans, rebuild, recover
from queue_app.lifecycle.recovery.sweep import Recent
from queue_app.maintenance.duty import Duty, LeaderTerm, Walk

logger = logging.getLogger(__name__)

#: Rows of the backlog looked at in one run: a hundredth of a core, and a million of them in a quarter of an hour.
ROWS_PER_STEP = 10_000


class Sweep:
    """Looks at new rows, since those that the run before saw."""

    def __init__(self) -> None:
        self._recent = Recent()
        self._token = 0

    def run(self, term: LeaderTerm) -> int:
        """Push new rows that were committed but never pushed.

        Returns:
            How many jobs were missing.
        """
        if term.lost:
            return 0  # the rebuild comes first, and does the same
        if term.token > self._token + 1 or term.token < self._token:  # another process may have led since
            self._recent.forget()
        self._token = term.token
        count = self._recent.run(term.client, check=term.check, keep=term.keep, over=lambda: term.over)
        term.unfinished = self._recent.unfinished
        return _said(count)


class Backlog:
    """Walks through all that waits, a part in each run."""

    def __init__(self) -> None:
        self._behind: recover.Place | None = None

    def run(self, term: LeaderTerm) -> int:
        """Push older rows that were never pushed, or that Redis has lost.

        Returns:
            How many jobs were missing.
        """
        if term.lost:
            return 0
        rebuild.sync_pauses(term.client, term.check)
        count, self._behind = recover.sweep(
            term.client, limit=ROWS_PER_STEP, after=self._behind, check=term.check, keep=term.keep
        )
        return _said(count)


def _said(count: int) -> int:
    if count:
        logger.warning("%d waiting jobs were missing in Redis and were pushed.", count)
    return count


class Orphans:
    """Walks through the rows that say `running`; over several runs if there are many."""

    def __init__(self) -> None:
        self._walk: Walk[UUID] = Walk()

    def run(self, term: LeaderTerm) -> int:
        """Deliver those again that no child holds.

        Returns:
            How many there were.
        """
        if term.lost:
            return 0  # their holders have not been announced again
        step = partial(orphans.redeliver_some, term.client, check=term.check)
        return self._walk.go_on(term, step)


#: With SWEEP_GRACE, and the time until the leader looks again, less than 10 s.
SWEEP = Duty("sweep", 3.0, Sweep().run, "pushes new rows that were committed but never pushed")
BACKLOG = Duty("backlog", 8.0, Backlog().run, "looks for more of them in the backlog, and sets pauses right")
ORPHANS = Duty(
    "orphans", 20.0, Orphans().run, "delivers jobs again that say running and are held by no child"
)
