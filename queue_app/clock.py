"""The one place that reads the time, so that tests can move it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

#: The times that every store can hold: years 1 to 9999, less a day at each end. Local times lie up to a day before or
#: after UTC.
EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
#: The longest duration, such as a limit or an age, in seconds.
LONGEST = 100 * 365 * 86_400.0


class Clock:
    """The clock of this process.

    Attributes:
        source: gives the time in seconds since the epoch; tests replace it.
    """

    __slots__ = ("source",)

    def __init__(self) -> None:
        self.source: Callable[[], float] = time.time


#: The clock that this process reads.
current = Clock()


def seconds() -> float:
    """The time in seconds since the epoch, to the microsecond, as the record keeps it.

    Smaller parts are cut off here, because Python and PostgreSQL would round them differently.
    """
    return current.source() * 1e6 // 1 / 1e6


def now() -> datetime:
    """The time as an aware UTC datetime, to the microsecond."""
    return datetime.fromtimestamp(current.source(), UTC)


def from_seconds(value: float) -> datetime:
    """The aware UTC datetime of `value` seconds since the epoch."""
    return datetime.fromtimestamp(value, UTC)


def travel(source: Callable[[], float] = time.time) -> None:
    """Read the time from `source` from now on.

    Args:
        source: gives seconds since the epoch; left out: the real time.
    """
    current.source = source
