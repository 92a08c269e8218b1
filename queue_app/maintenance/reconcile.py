"""Reconcile: whatever Redis lost or never got is pushed again from the record."""

from __future__ import annotations

import logging
from uuid import UUID

from queue_app.lifecycle import orphans, rebuild, recover
from queue_app.lifecycle.sweep import Recent
from queue_app.maintenance.duty import Duty, Mandate

logger = logging.getLogger(__name__)

_recent = Recent()
_token = 0
_behind: recover.Place | None = None

#: Rows of the backlog looked at in one run: a hundredth of a core, and a million of them in a quarter of an hour.
PART = 10_000


def sweep(mandate: Mandate) -> int:
    """Push new rows that were committed but never pushed.

    Returns:
        How many jobs were missing.
    """
    global _token
    if mandate.lost:
        return 0  # the rebuild comes first, and does the same
    if mandate.token > _token + 1 or mandate.token < _token:  # another process may have led in between
        _recent.forget()
    _token = mandate.token
    count = _recent.run(mandate.client, check=mandate.check, keep=mandate.keep, over=lambda: mandate.over)
    mandate.unfinished = _recent.unfinished
    return _said(count)


def backlog(mandate: Mandate) -> int:
    """The same for older rows, a part of a long backlog each time.

    Returns:
        How many jobs were missing.
    """
    global _behind
    if mandate.lost:
        return 0
    rebuild.sync_pauses(mandate.client, mandate.check)
    count, _behind = recover.sweep(
        mandate.client, limit=PART, after=_behind, check=mandate.check, keep=mandate.keep
    )
    return _said(count)


def _said(count: int) -> int:
    if count:
        logger.warning("%d waiting jobs were missing in Redis and were pushed.", count)
    return count


class Orphans:
    """Walks through the rows that say `running`; over several runs if there are many."""

    def __init__(self) -> None:
        self._behind: UUID | None = None

    def run(self, mandate: Mandate) -> int:
        """Deliver those again that no child holds.

        Returns:
            How many there were.
        """
        if mandate.lost:
            return 0  # their holders have not been announced again
        count = 0
        while True:
            mandate.keep()
            found, self._behind = orphans.redeliver_some(mandate.client, self._behind, check=mandate.check)
            count += found
            mandate.unfinished = self._behind is not None
            if self._behind is None or mandate.over:
                return count


#: With SWEEP_GRACE, and the time until the leader looks again, less than 10 s.
SWEEP = Duty("sweep", 3.0, sweep, "pushes new rows that were committed but never pushed")
BACKLOG = Duty("backlog", 8.0, backlog, "looks for more of them in the backlog, and sets pauses right")
ORPHANS = Duty("orphans", 20.0, Orphans().run, "delivers jobs again that say running and are held by nobody")
