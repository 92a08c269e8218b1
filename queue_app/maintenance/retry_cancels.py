"""Cancel: jobs that were asked to end and have not are asked again, and those that no child holds any more end here."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from queue_app.lifecycle import cancel
from queue_app.maintenance.duty import Duty, LeaderTerm, Walk


class Pursuit:
    """Walks through the jobs that are to end; over several runs if there are many."""

    def __init__(self) -> None:
        self._walk: Walk[UUID] = Walk()

    def run(self, term: LeaderTerm) -> int:
        """Go on with the walk, or begin one.

        Returns:
            How many jobs ended.
        """
        if term.lost:
            return 0  # until the rebuild it is not known which child holds what
        return self._walk.go_on(term, partial(cancel.pursue_some, check=term.check))


CANCEL = Duty("cancel", 5.0, Pursuit().run, "ends what was cancelled and has not ended")
