"""Cancel: jobs that were asked to end and have not are asked again, and those that nobody holds any more end here."""

from __future__ import annotations

from uuid import UUID

from queue_app.lifecycle import cancelling
from queue_app.maintenance.duty import Duty, Mandate


class Pursuit:
    """Walks through the jobs that are to end; over several runs if there are many."""

    def __init__(self) -> None:
        self._behind: UUID | None = None

    def run(self, mandate: Mandate) -> int:
        """Go on with the walk, or begin one.

        Returns:
            How many jobs ended.
        """
        if mandate.lost:
            return 0  # until the rebuild it is not known which child holds what
        count = 0
        while True:
            found, self._behind = cancelling.pursue_some(self._behind, check=mandate.check)
            count += found
            mandate.unfinished = self._behind is not None
            if self._behind is None or mandate.over:
                return count


CANCEL = Duty("cancel", 5.0, Pursuit().run, "ends what was cancelled and has not ended")
