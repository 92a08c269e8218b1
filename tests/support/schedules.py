"""Schedules: their rows, one run of the tick, and the jobs that it has enqueued."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from queue_app.models import Job, Schedule
from queue_app.scheduling import tick

#: Set the clock to a time of 2026-11-22, or of another day, in UTC.
At = Callable[[str], datetime]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text if "T" in text else f"2026-11-22T{text}").replace(tzinfo=UTC)


def ticked(*, check: Callable[[], None] = lambda: None) -> int:
    return tick.enqueue_due(check=check).jobs


def starts() -> list[datetime | None]:
    """When the jobs may start, in the order in which they were enqueued."""
    return list(Job.objects.order_by("pk").values_list("run_after", flat=True))


def row(schedule: Schedule) -> Schedule:
    return Schedule.objects.get(pk=schedule.pk)


def write(schedule: Schedule, **values: Any) -> None:
    """Write into a row what no rule has checked, as a person with a database client does."""
    Schedule.objects.filter(pk=schedule.pk).update(**values)
