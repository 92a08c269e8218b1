"""Recovers jobs whose rows say `running` although no child holds them."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from queue_app.lifecycle.recovery import orphans
from queue_app.maintenance.duty import Duty, Walk
from queue_app.maintenance.leader_term import LeaderTerm


class RecoverOrphans(Duty):
    """Walks through the rows that say `running`. If there are many, it goes over several runs."""

    name = "orphans"
    interval = 20.0
    doc = "delivers jobs again that say running and are held by no child"

    def __init__(self) -> None:
        self._walk: Walk[UUID] = Walk()

    def run(self, term: LeaderTerm) -> int:
        """Deliver the orphans again.

        Returns:
            How many there were.
        """
        if term.needs_rebuild:
            return 0  # the living workers have not announced yet what they run
        step = partial(orphans.recover_orphaned_part, term.client, check=term.check)
        return self._walk.advance(term, step)
