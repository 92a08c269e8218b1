"""Cancel: jobs that were asked to end and have not are asked again, and those that nobody holds any more end here."""

from __future__ import annotations

from queue_app.lifecycle import cancelling
from queue_app.maintenance.duty import Duty, Mandate


def run(mandate: Mandate) -> int:
    """Pursue what was cancelled.

    Returns:
        How many jobs ended.
    """
    if mandate.lost:
        return 0  # until the rebuild nobody knows who holds what
    return cancelling.pursue(check=mandate.check)


CANCEL = Duty("cancel", 5.0, run, "ends what was cancelled and has not ended")
