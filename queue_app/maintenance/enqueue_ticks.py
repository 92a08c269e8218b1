"""Enqueues the jobs of schedules shortly before their time."""

from __future__ import annotations

from queue_app.maintenance.duty import Duty
from queue_app.maintenance.leader_term import LeaderTerm
from queue_app.scheduling import tick


class EnqueueTicks(Duty):
    """Walks through the schedules that are due. If there are many, it goes over several runs."""

    name = "tick"
    #: Each run comes before the ticks that the run before saw are over: see models.schedule.AHEAD.
    interval = 6.0
    doc = "enqueues jobs of schedules whose time has come"

    def __init__(self) -> None:
        self._position: tick.Position | None = None

    def run(self, term: LeaderTerm) -> int:
        """Enqueue what is due.

        Returns:
            How many jobs were enqueued.
        """
        # It does not wait for a rebuild. It writes rows, as every enqueue does. A job that is pushed before the rebuild
        # is pushed once: the rebuild leaves out what Redis knows.
        done = tick.enqueue_due(self._position, check=term.check)
        term.unfinished, self._position = done.unfinished, done.position
        return done.jobs
