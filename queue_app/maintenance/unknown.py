"""Unknown: jobs that were cancelled while they waited for a worker that knows their task are forgotten."""

from __future__ import annotations

from queue_app.dispatch import queues, unknown
from queue_app.maintenance.duty import Duty, Mandate


def run(mandate: Mandate) -> int:
    """Look at some of each task.

    Returns:
        How many were forgotten.
    """
    names = queues.known(mandate.client)
    count = 0
    for queue, needs in unknown.needs(mandate.client, names).items() if names else ():
        for need in needs:
            mandate.check()
            count += unknown.forget_cancelled(mandate.client, queue, need)
    return count


UNKNOWN = Duty("unknown", 20.0, run, "forgets cancelled jobs of tasks that no worker knew")
