"""What the bulk functions are given: plain values, no models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, NamedTuple

from queue_app.domain.envelope import FIELDS, LANE, REQUIRED

#: Columns that every insert names.
_ALWAYS = ("queue", "state", *(f.column for f in FIELDS if f.default is REQUIRED))
#: Columns with a default, named only where the value differs.
_DEFAULTS = tuple((f.column, f.default) for f in FIELDS if f.default is not REQUIRED)

#: Columns with the same value in all new rows.
CONSTANT = frozenset({"attempt", "failures", "deaths"})


@dataclass(slots=True)
class NewJobs:
    """Rows to insert: calls of one task that differ in their arguments alone.

    Attributes:
        ids: UUIDv7 as text, one for each job.
        payloads: JSON texts `[[args…], {kwargs…}]`, one for each job.
        run_after: aware datetime, or None for at once.
        timeout: seconds, or None for the task's own.
        lane, meta: see domain/envelope.py.
    """

    #: Values of all new rows.
    attempt: ClassVar[int] = 0
    failures: ClassVar[int] = 0
    deaths: ClassVar[int] = 0
    started_at: ClassVar[datetime | None] = None
    suspect: ClassVar[bool] = False

    task: str
    queue: str
    priority: int
    state: str
    backend: str
    run_after: datetime | None
    max_attempts: int
    timeout: float | None
    enqueued_at: datetime
    ids: list[str]
    payloads: list[str]
    lane: str = LANE
    meta: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that they share, without those that hold the database's own default."""
        if self.lane == LANE and self.meta is None:
            return _ALWAYS
        return (*_ALWAYS, *(column for column, default in _DEFAULTS if getattr(self, column) != default))

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> NewJobs:
        """Some of them."""
        return replace(self, ids=self.ids[start:stop], payloads=self.payloads[start:stop])


class WaitingJob(NamedTuple):
    """What Redis is to carry of a job that waits.

    Attributes:
        at: when it may start, epoch seconds; 0 for now.
        head: of its body, to be `sealed` (domain/envelope.py).
        payload: JSON text; None when it is longer than was asked for.
    """

    id: str
    at: float
    head: str
    payload: str | None


class Accepted(set[str]):
    """The ids whose outcome counted.

    Attributes:
        cancelled: accepted ids whose job ended cancelled; no dead letter is written for them.
    """

    cancelled: frozenset[str] = frozenset()


class Start(NamedTuple):
    """An attempt that is under way; `started_at` in epoch seconds, `progress` JSON text or None."""

    id: str
    number: int
    started_at: float
    progress: str | None
