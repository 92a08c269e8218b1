"""Cron expressions by the clocks of a zone: against a walk through every minute, and against known days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as some

from queue_app.domain import cron
from queue_app.exceptions import InvalidOption

MINUTE = timedelta(minutes=1)

#: Days around a change of the clocks, by zone: forward, and back.
CHANGES = [
    ("Europe/Berlin", "2026-03-29"),  # 02:00 → 03:00
    ("Europe/Berlin", "2026-10-25"),  # 03:00 → 02:00
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-10-04"),  # 02:00 → 02:30
    ("Australia/Lord_Howe", "2026-04-05"),  # 02:00 → 01:30
    ("America/Havana", "2026-03-08"),  # at midnight: 00:00 → 01:00
    ("America/Havana", "2026-11-01"),
    ("UTC", "2026-03-29"),
]
EXPRESSIONS = [
    "* * * * *",
    "*/15 * * * *",
    "0 * * * *",
    "0 */3 * * *",
    "45 */2 * * *",
    "*/10 2 * * *",
    "30 2 * * *",
    "0 2,3 * * *",
    "0,20,40 1-3 * * *",
    "15 2 * * *",
    "30 1 * * SUN",
    "0 0 * * *",
    "59 23 * * *",
]


def runs(expression: str, zone: str, start: str, count: int) -> list[str]:
    """The next runs, as the clocks of the zone show them."""
    moment = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone))
    found = cron.upcoming(expression, zone, moment, count)
    return [at.astimezone(ZoneInfo(zone)).strftime("%d %H:%M%z") for at in found]


def by_walking(expression: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """The rule of cron.py, looked up minute by minute."""
    where = ZoneInfo(zone)
    moments = [start + n * MINUTE for n in range(1, (end - start) // MINUTE + 1)]
    shown = [moment.astimezone(where).replace(tzinfo=None, fold=0) for moment in moments]
    fitting = set(takewhile(lambda time: time <= shown[-1], CronSim(expression, shown[0] - MINUTE)))
    if not cron.is_fixed(expression):
        return [m for m, time in zip(moments, shown, strict=True) if time in fitting]
    # The first moment at which the clocks show the time or, for once, a later one.
    return sorted({next(m for m, t in zip(moments, shown, strict=True) if t >= time) for time in fitting})


@pytest.mark.parametrize("zone,day", CHANGES)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_minute_around_a_change_of_the_clocks(zone: str, day: str, expression: str) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(hours=20)
    end = start + timedelta(hours=50)
    found, moment = [], start
    while (moment := cron.next_after(expression, zone, moment)) <= end:
        assert moment.tzinfo is UTC
        found.append(moment)
    assert found == by_walking(expression, zone, start, end)


@pytest.mark.parametrize("zone,day", CHANGES)
@pytest.mark.parametrize("expression", ["*/7 * * * *", "30 2 * * *", "5,35 1-3 * * *", "0 */3 * * *"])
def test_wherever_one_begins_the_next_time_is_the_same(zone: str, day: str, expression: str) -> None:
    """A schedule that is resumed within the repeated hour must not go back in time."""
    start = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(hours=16)
    all_of_them = cron.upcoming(expression, zone, start, 250 if expression.startswith("*/7") else 10)
    moment = start
    while moment < all_of_them[-2]:
        expected = next(at for at in all_of_them if at > moment)
        assert cron.next_after(expression, zone, moment) == expected, moment
        moment += timedelta(minutes=13, seconds=59, microseconds=999_999)


@pytest.mark.parametrize(
    "expression,zone,start,expected",
    [
        # Skipped: at the moment to which the clocks jump.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 03:00", ["29 03:00+0200", "30 02:30+0200"]),
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-28 03:00", ["29 03:00+0200", "30 02:00+0200"]),
        ("30 2 * * *", "America/New_York", "2026-03-07 03:00", ["08 03:00-0400", "09 02:30-0400"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03 03:00", ["04 02:30+1100", "05 02:15+1100"]),
        # Twice: the first counts.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24 03:00", ["25 02:30+0200", "26 02:30+0100"]),
        ("30 1 * * *", "America/New_York", "2026-10-31 03:00", ["01 01:30-0400", "02 01:30-0500"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04 03:00", ["05 01:45+1100", "06 01:45+1030"]),
        # Intervals: whenever the clocks show it.
        ("0 * * * *", "Europe/Berlin", "2026-03-29 00:30", ["29 01:00+0100", "29 03:00+0200"]),
        (
            "0 * * * *",
            "Europe/Berlin",
            "2026-10-25 01:30",
            ["25 02:00+0200", "25 02:00+0100", "25 03:00+0100"],
        ),
        ("*/30 2 * * *", "Europe/Berlin", "2026-03-28 03:00", ["30 02:00+0200", "30 02:30+0200"]),
        ("0 */3 * * *", "Australia/Lord_Howe", "2026-10-04 00:00", ["04 03:00+1100", "04 06:00+1100"]),
        ("0 */3 * * *", "Australia/Lord_Howe", "2026-04-05 00:00", ["05 03:00+1030", "05 06:00+1030"]),
    ],
)
def test_known_days(expression: str, zone: str, start: str, expected: list[str]) -> None:
    assert runs(expression, zone, start, len(expected)) == expected


def test_where_clocks_change_by_the_hour_cronsim_says_the_same() -> None:
    zone = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 1, 1, 12, tzinfo=zone)
    for expression in (
        "0 */5 * * *",
        "17 4 * * *",
        "20 2 * * SUN",
        "0 0 L * *",
        "0 9 * * MON#1",
        "0 0 29 2 *",
    ):
        theirs = CronSim(expression, start)
        expected = [next(theirs).astimezone(UTC) for _ in range(50)]
        assert cron.upcoming(expression, "Europe/Berlin", start, 50) == expected


def test_nicknames() -> None:
    start = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)  # a Sunday
    found = {name: cron.next_after(name, "UTC", start).isoformat()[:16] for name in cron.NICKNAMES}
    assert found == {
        "@hourly": "2026-11-22T11:00",
        "@daily": "2026-11-23T00:00",
        "@midnight": "2026-11-23T00:00",
        "@weekly": "2026-11-29T00:00",
        "@monthly": "2026-12-01T00:00",
        "@yearly": "2027-01-01T00:00",
        "@annually": "2027-01-01T00:00",
    }
    cron.validate(" @Daily ")


@pytest.mark.parametrize(
    "expression,said",
    [
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields"),
        ("0 * * * * *", "has 6 fields"),
        ("60 * * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("0 0 */29 2 MON#5", "never due"),
        ("0 0 * FOO *", "bad month"),
        ("0 0 * * 8", "bad day-of-week"),
        ("*/0 * * * *", "bad minute"),
        ("@reboot", "is not known here"),
        (None, "is no text"),
    ],
)
def test_what_is_wrong_is_said(expression: str, said: str) -> None:
    with pytest.raises(InvalidOption, match=said) as caught:
        cron.validate(expression)
    assert "cron is" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["Mars/Phobos", "", "Europe", "/etc/passwd", "../etc/passwd", "x" * 5000, "a\0b", None, 7]
)
def test_a_zone_must_be_one(name: str) -> None:
    with pytest.raises(InvalidOption, match="zone is"):
        cron.zone_of(name)


def test_a_slip_in_a_zone_is_understood() -> None:
    with pytest.raises(InvalidOption, match="Did you mean 'Europe/Berlin'"):
        cron.zone_of("Europe/Berin")


_part = some.text("0123456789*/,-#LWAMONUE ", max_size=9)


@given(some.one_of(some.text(max_size=30), some.lists(_part, min_size=5, max_size=5).map(" ".join)))
def test_whatever_is_typed_it_is_due_some_day_or_refused(expression: str) -> None:
    try:
        cron.validate(expression)
    except InvalidOption:
        return
    now = datetime.now(UTC)
    assert cron.next_after(expression, "Europe/Berlin", now) > now
