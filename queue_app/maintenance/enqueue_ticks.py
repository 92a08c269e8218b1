"""Tick: jobs of schedules are enqueued shortly before their time."""

from __future__ import annotations

from queue_app.maintenance.duty import Duty, LeaderTerm
from queue_app.scheduling import tick


class Ticks:
    """Walks through the schedules that are due; over several runs if there are many."""

    def __init__(self) -> None:
        self._behind: tick.Place | None = None

    def run(self, term: LeaderTerm) -> int:
        """Enqueue what is due of all schedules.

        Returns:
            How many jobs were enqueued.
        """
        # Whether Redis has lost its data is not asked: what is written here are rows, as any enqueue writes them, and
        # those that are pushed before the rebuild are pushed once, as it leaves out what Redis knows.
        done = tick.tick(self._behind, check=term.check)
        term.unfinished, self._behind = done.unfinished, done.behind
        return done.jobs


#: Often enough that each run comes before the ticks that the last one saw are over: see models.schedule.AHEAD.
TICK = Duty("tick", 6.0, Ticks().run, "enqueues jobs of schedules whose time has come")
