"""Tick: jobs of schedules are enqueued shortly before their time."""

from __future__ import annotations

from queue_app.lifecycle import tick
from queue_app.maintenance.duty import Duty, Mandate

_behind: tick.Place | None = None


def run(mandate: Mandate) -> int:
    """Enqueue what is due of all schedules.

    Returns:
        How many jobs were enqueued.
    """
    # Whether Redis has lost its data is not asked: what is written here are rows, as any enqueue writes them, and those
    # that are pushed before the rebuild are pushed once, as it leaves out what Redis knows.
    global _behind
    done = tick.tick(_behind, check=mandate.check)
    mandate.unfinished, _behind = done.unfinished, done.behind
    return done.jobs


#: Often enough that each run comes before the ticks that the last one saw are over: see models.schedule.AHEAD.
TICK = Duty("tick", 6.0, run, "enqueues jobs of schedules whose time has come")
