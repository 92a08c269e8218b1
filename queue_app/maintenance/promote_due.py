"""Promotes delayed jobs whose time has come: their rows change from `scheduled` or `retrying` to `queued`."""

from __future__ import annotations

from functools import partial

from queue_app import clock
from queue_app.lifecycle import release
from queue_app.lifecycle.release import Position
from queue_app.maintenance.duty import Duty, Walk
from queue_app.maintenance.leader_term import LeaderTerm


class PromoteDue(Duty):
    """Walks through the rows whose time has come, soonest first. If there are many, it goes over several runs."""

    name = "promote_due"
    interval = 8.0
    doc = "marks delayed jobs as queued when their time has come"

    def __init__(self) -> None:
        self._walk: Walk[Position] = Walk()

    def run(self, term: LeaderTerm) -> int:
        """Go on with the walk, or begin one.

        Returns:
            How many rows were changed.
        """
        if term.needs_rebuild:
            self._walk = Walk()
            return 0  # `queued` would be wrong: Redis does not have these jobs
        step = partial(release.promote_due_part, term.client, clock.now(), check=term.check)
        return self._walk.advance(term, step)
