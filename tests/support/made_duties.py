"""Duties made of a function, for tests of the leader."""

from __future__ import annotations

from collections.abc import Callable

from queue_app.maintenance.duty import Duty
from queue_app.maintenance.leader_term import LeaderTerm


def make_duty(
    name: str, interval: float, run: Callable[[LeaderTerm], int], doc: str = "", *, urgent: bool = False
) -> Duty:
    """A duty of its own class whose run calls `run`."""
    members = {
        "name": name,
        "interval": interval,
        "doc": doc,
        "urgent": urgent,
        "run": lambda self, term: run(term),
    }
    made: Duty = type("MadeDuty", (Duty,), members)()
    return made
