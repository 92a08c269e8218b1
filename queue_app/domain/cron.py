"""When a cron expression is due, by the clocks of a time zone.

An expression has the five fields of cron: minute, hour, day of month, month, day of week. It may have names (`MON`,
`JAN`), ranges, lists and steps. `L` is the last day of a month, `LW` its last working day. `5L` is its last Friday,
`MON#2` its second Monday. Or the expression is one of `NICKNAMES`. If both days are given and neither begins with
`*`, either of them is enough.

Clocks are put forward and back. The rule is that of Debian's cron:

* **Fixed times** (neither the minute nor the hour begins with `*`, such as `30 2 * * *`) run once for each day. A time
  that is skipped runs at the moment to which the clocks jump; several that are skipped at once run once. Of a time that
  comes twice, the first counts.
* **Intervals** (the minute or the hour begins with `*`, such as `*/15 * * * *`) run whenever the clocks show a time
  that fits: never at one that is skipped, twice at one that comes twice.

cronsim reads the expressions and finds the times that fit on a clock that is never changed. The changes are made here.
cronsim's own way misses ticks where a change is of half an hour. When it starts within an hour that is repeated, it
goes back in time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from queue_app import clock, conf
from queue_app.exceptions import InvalidOption

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * SUN",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_HELP = (
    "Use minute, hour, day of month, month and day of week, such as '30 6 * * MON-FRI' or '*/15 * * * *' (Sunday begins"
    " a range, SUN-TUE, or ends it as 7, FRI-7), or one of"
    f" {', '.join(NICKNAMES)}."
)

#: Far more than clocks are ever changed by.
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


def validate(expression: str) -> None:
    """Check an expression.

    Raises:
        InvalidOption: says what is wrong with it, or that it is never due.
    """
    now = clock.now()
    try:
        next(_clock_times(expression, now.replace(tzinfo=None)))
    except StopIteration:
        raise InvalidOption(f"cron is {expression!r}, which is never due. {_HELP}") from None


def zone_of(name: str) -> ZoneInfo:
    """The time zone of this name.

    Raises:
        InvalidOption: there is none.
    """
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, TypeError, OSError):  # not known; not a name; a folder of the database
        hint = conf.did_you_mean(str(name), available_timezones())
        raise InvalidOption(
            f"zone is {str(name)[:64]!r}, which is no time zone here.{hint} Use a name of the IANA database, such as"
            " 'Europe/Berlin' or 'UTC'; where the system has none of them, `pip install tzdata`."
        ) from None


def next_after(expression: str, zone: str, moment: datetime) -> datetime:
    """When the expression is due next.

    Args:
        zone: by whose clocks.
        moment: an aware datetime.

    Returns:
        A time in UTC, later than `moment`.

    Raises:
        InvalidOption: the expression or the zone is wrong, or there is no such time within fifty years.
    """
    where = zone_of(zone)
    start = moment.astimezone(UTC).replace(microsecond=0)
    try:
        return (
            _next_fixed(expression, where, start) if is_fixed(expression) else _next(expression, where, start)
        )
    except StopIteration:
        raise InvalidOption(f"cron is {expression!r}, which is never due any more. {_HELP}") from None


def upcoming(expression: str, zone: str, moment: datetime, count: int) -> list[datetime]:
    """The next `count` times at which the expression is due, soonest first. Arguments and errors are those of
    `next_after`."""
    found: list[datetime] = []
    for _ in range(count):
        moment = next_after(expression, zone, moment)
        found.append(moment)
    return found


def is_fixed(expression: str) -> bool:
    """Whether it names times of the day, and no intervals."""
    minute, hour = _fields(expression)[:2]
    return not minute.startswith("*") and not hour.startswith("*")


def _fields(expression: str) -> list[str]:
    if not isinstance(expression, str):
        raise InvalidOption(f"cron is {expression!r}, which is no text. {_HELP}")
    found = NICKNAMES.get(expression.strip().lower(), expression).split()
    if len(found) != 5:
        what = f"has {len(found)} fields" if not expression.startswith("@") else "is not known here"
        raise InvalidOption(f"cron is {expression[:64]!r}, which {what}. {_HELP}")
    return found


def _clock_times(expression: str, start: datetime) -> Iterator[datetime]:
    """The times after `start` that fit, on a clock that is never changed."""
    try:
        return CronSim(" ".join(_fields(expression)), start)
    except (CronSimError, AssertionError) as error:
        said = f": {str(error).lower()}" if str(error) else ", which cannot be read"
        raise InvalidOption(f"cron is {expression[:64]!r}{said}. {_HELP}") from None


def _next_fixed(expression: str, zone: ZoneInfo, start: datetime) -> datetime:
    for time in _clock_times(expression, _shown(start, zone)):
        if (found := _moment_of(time, zone)) > start:
            return found
    raise StopIteration


def _next(expression: str, zone: ZoneInfo, start: datetime) -> datetime:
    """Go on from change to change of the clocks; between two of them they are always right by the same offset."""
    offset = _offset(start, zone)
    while True:
        time = next(_clock_times(expression, (start + offset).replace(tzinfo=None)))
        found = time.replace(tzinfo=UTC) - offset
        end = min(found, start + _DAY)
        if _offset(end, zone) != offset:
            change = _change(start, end, zone)
            # The moment of the change itself may fit, by the clocks as they are from then on.
            start, offset = change - _SECOND, _offset(change, zone)
        elif end == found:
            return found
        else:  # Nothing fits before it, whatever is done to the clocks; be near when it comes.
            start = found - _DAY
            offset = _offset(start, zone)


def _moment_of(time: datetime, zone: ZoneInfo) -> datetime:
    """When the clocks show `time` first; or, if they skip it, when they do."""
    found = time.replace(tzinfo=zone).astimezone(UTC)
    if _shown(found, zone) == time:
        return found
    return _change(time.replace(tzinfo=zone, fold=1).astimezone(UTC), found, zone)


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The moment, to the second, of the change of the clocks that lies after `low` and not after `high`."""
    after = _offset(high, zone)
    while high - low > _SECOND:
        middle = low + (high - low) // (2 * _SECOND) * _SECOND
        if _offset(middle, zone) == after:
            high = middle
        else:
            low = middle
    return high


def _shown(moment: datetime, zone: ZoneInfo) -> datetime:
    """What the clocks show."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()
