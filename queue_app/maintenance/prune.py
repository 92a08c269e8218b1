"""Prune: finished jobs, and workers that stopped long ago, leave the record when their time is over."""

from __future__ import annotations

import time
from uuid import UUID

from queue_app.lifecycle import prune
from queue_app.maintenance.duty import Duty, Mandate

#: Seconds after which a run leaves the rest to the next, which comes at once: other duties wait behind it.
SECONDS = 2.0
#: Parts with nothing to delete, one after the other, that one run looks at.
VAIN = 5

_behind: UUID | None = None


def run(mandate: Mandate) -> int:
    """Walk on through the record, batch by batch, while there is something to delete and time is left.

    Returns:
        How many rows were deleted.
    """
    global _behind
    began, count, vain = time.monotonic(), 0, 0
    while vain < VAIN:
        found, _behind = prune.some(_behind, check=mandate.check)
        count += found
        if _behind is None:
            count += prune.workers(check=mandate.check)
            break
        vain = 0 if found else vain + 1
        if time.monotonic() - began >= SECONDS:
            mandate.unfinished = count > 0
            break
    return count


PRUNE = Duty("prune", 30.0, run, "deletes finished jobs and stopped workers whose retention is over")
