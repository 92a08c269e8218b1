"""The status of the maintenance duties."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from queue_app import clock
from queue_app.dispatch import connection, workers
from queue_app.maintenance import history
from queue_app.maintenance.duty import Duty
from queue_app.maintenance.duty_list import DUTIES
from queue_app.maintenance.history import History


@dataclass(frozen=True, slots=True)
class DutyStatus:
    """One duty and the history of its runs."""

    duty: type[Duty]
    history: History

    @property
    def status(self) -> str:
        """`ok`; `failing`: the last run ended in an error; `late`: the last run without an error is too long ago."""
        if self.history.late(self.duty):
            return "late"
        return "failing" if self.history.failing else "ok"

    @property
    def at(self) -> datetime | None:
        """When the last run began."""
        return _time(self.history.at)

    @property
    def seconds(self) -> float | None:
        """Seconds that the last run took; None before the first run."""
        return self.history.seconds if self.history.at else None

    @property
    def count(self) -> int | None:
        """How many rows or jobs the last run touched; None before the first."""
        return self.history.count if self.history.at else None

    @property
    def leader(self) -> str | None:
        """The id of the leader that did the last run."""
        return self.history.leader or None

    @property
    def host(self) -> str | None:
        """Where the last run was done, as `host:pid`."""
        return self.history.host or None

    @property
    def error(self) -> str | None:
        """The last error."""
        return self.history.error or None

    @property
    def good_at(self) -> datetime | None:
        """When the last run without an error began."""
        return _time(self.history.good_at)

    @property
    def error_at(self) -> datetime | None:
        """When the run began that ended in the last error."""
        return _time(self.history.error_at)


@dataclass(frozen=True, slots=True)
class DutyReport:
    """The status of all duties.

    Attributes:
        leader: the id of the leader; None while no process leads.
        token: the fencing token of this leadership.
        lines: one status for each duty, in the order in which they run.
    """

    leader: str | None
    token: int
    lines: list[DutyStatus]


def now(timeout: float = 5.0) -> DutyReport:
    """Read the current status of the duties; two round trips to Redis.

    Args:
        timeout: seconds that Redis may take to answer.

    Raises:
        StoreUnavailable: Redis cannot be reached.
    """
    with connection.asked(timeout) as client:
        leader, token = workers.leader(client) or (None, 0)
        found = history.read(client)
    return DutyReport(leader, token, [DutyStatus(duty, found.get(duty.name, History())) for duty in DUTIES])


def _time(seconds: float) -> datetime | None:
    return clock.from_seconds(seconds) if seconds else None
