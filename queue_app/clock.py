"""The one place that reads the time, so that tests can move it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

#: The times that every store and every zone's clocks can hold: years 1 to 9999, without a day at each end.
#: Local times lie up to a day before or after UTC.
EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 31, tzinfo=UTC)
#: The most seconds of a duration, such as a limit or an age.
LONGEST = 100 * 365 * 86_400.0

#: Replaced by tests; seconds since the epoch.
_source = time.time


def seconds() -> float:
    """The time in seconds since the epoch, to the microsecond: finer than the record keeps it, Python and PostgreSQL
    would each round it in their own way."""
    return int(_source() * 1e6) / 1e6


def now() -> datetime:
    """The time as an aware UTC datetime, microseconds kept."""
    return datetime.fromtimestamp(_source(), UTC)


def from_seconds(value: float) -> datetime:
    """The aware UTC datetime of `value` seconds since the epoch."""
    return datetime.fromtimestamp(value, UTC)


def travel(source: object = None) -> None:
    """Read the time from `source` (a callable giving epoch seconds) from now on; None is the real one."""
    global _source
    _source = time.time if source is None else source  # type: ignore[assignment]
