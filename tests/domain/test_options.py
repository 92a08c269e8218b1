"""What a task or a call may say: names, priorities, times and limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from queue_app import clock
from queue_app.domain import options
from queue_app.domain.names import PRIORITIES, check_queue, priority_of
from queue_app.exceptions import InvalidOption
from queue_app.models import Queue
from queue_app.tasks import spec

NOW = 1_800_000_000.25


@pytest.fixture
def frozen() -> Any:
    clock.travel(lambda: NOW)
    yield
    clock.travel()


# names


@pytest.mark.parametrize("name", ["default", "a", "9", "mail.eu-west_1", "x" * 64, "A-B"])
def test_a_queues_name(name: str) -> None:
    assert check_queue(name) == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "-a", ".a", "_a", "a:b", "a/b", "a{b}", "é", "x" * 65, "mail\n", "\nmail", 5, None],
)
def test_what_cannot_name_a_queue(name: Any) -> None:
    with pytest.raises(InvalidOption, match=r"queue_name is .*letters, digits"):
        check_queue(name)


@given(st.text(max_size=5))
@example("mail\n")
def test_the_model_and_the_tasks_agree_on_names(name: str) -> None:
    from django.core.exceptions import ValidationError

    def ok(check: Any, *errors: type[Exception]) -> bool:
        try:
            check()
        except errors:
            return False
        return True

    field = Queue._meta.get_field("name")
    by_model = ok(
        lambda: field.run_validators(name) if name else check_queue(name), ValidationError, InvalidOption
    )
    assert by_model is ok(lambda: check_queue(name), InvalidOption)


# priorities


@given(st.integers(-100, 100))
def test_priorities_are_whole_numbers(value: int) -> None:
    assert priority_of(value) == value


def test_priorities_have_names() -> None:
    assert {name: priority_of(name) for name in PRIORITIES} == {
        "critical": 75,
        "high": 50,
        "normal": 0,
        "low": -50,
    }


@pytest.mark.parametrize("value", [-101, 101, 5.0, True, None, "urgent", "5"])
def test_a_wrong_priority_is_refused(value: Any) -> None:
    with pytest.raises(
        InvalidOption, match="whole number from -100 to 100, or one of critical, high, normal, low"
    ):
        priority_of(value)


# times


def test_run_after_as_a_time_or_a_delay(frozen: None) -> None:
    at = datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert options.run_after(None) is None
    assert options.run_after(at) is at
    expected = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=90)
    assert options.run_after(90) == expected
    assert options.run_after(timedelta(seconds=90)) == expected
    assert options.run_after(-5.0) == datetime.fromtimestamp(NOW - 5, UTC)  # the past is at once


@pytest.mark.parametrize(
    "value,said",
    [
        (datetime(2030, 1, 1), "has no time zone; use django.utils.timezone.now"),
        ("tomorrow", "use an aware datetime, a timedelta or a number of seconds"),
        (True, "use an aware datetime"),
        (1e12, "use a time between 0001-01-02 and 9999-12-31"),
        (-1e12, "use a time between 0001-01-02 and 9999-12-31"),
        (10**400, "use a time between 0001-01-02 and 9999-12-31"),
        (float("nan"), "use a time between 0001-01-02 and 9999-12-31"),
        (float("inf"), "use a time between 0001-01-02 and 9999-12-31"),
        (timedelta.max, "use a time between 0001-01-02 and 9999-12-31"),
        (timedelta.min, "use a time between 0001-01-02 and 9999-12-31"),
        (datetime.max.replace(tzinfo=UTC), "use a time between 0001-01-02 and 9999-12-31"),
        (datetime.min.replace(tzinfo=UTC), "use a time between 0001-01-02 and 9999-12-31"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))), "use a time between 0001-01-02"),
    ],
)
def test_a_wrong_run_after_is_refused(value: Any, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        options.run_after(value)


@override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin")
def test_without_time_zones_a_naive_time_is_local() -> None:
    assert options.run_after(datetime(2030, 1, 1, 12)) == datetime(2030, 1, 1, 11, tzinfo=UTC)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2130, 1, 1)))
def test_epoch_seconds_keep_the_microsecond(at: datetime) -> None:
    """Redis and the worker carry times as floats; `run_after` must come back exactly."""
    aware = at.replace(tzinfo=UTC)
    assert clock.from_seconds(float(repr(aware.timestamp()))) == aware


#: Where a local time lies farthest from UTC, in both directions.
ZONES = [UTC, ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Etc/GMT+12"), ZoneInfo("America/Juneau")]


@pytest.mark.parametrize(
    "at",
    [
        datetime(2999, 1, 1, tzinfo=UTC),
        datetime(2999, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(1900, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    ],
)
def test_a_time_may_be_far_off(at: datetime) -> None:
    assert options.run_after(at) is at


def test_a_delay_may_lead_far_off(frozen: None) -> None:
    assert options.run_after(timedelta(days=365_250)) == clock.from_seconds(NOW) + timedelta(days=365_250)
    assert options.run_after(950 * 365 * 86_400).year > 2_970  # type: ignore[union-attr]


@given(
    st.datetimes(timezones=st.timezones())
    | st.datetimes(timezones=st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone))
    | st.datetimes(datetime(9999, 12, 29), timezones=st.sampled_from(ZONES))
    | st.datetimes(max_value=datetime(1, 1, 4), timezones=st.sampled_from(ZONES))
    | st.timedeltas()
    | st.floats()
    | st.integers()
)
@example(datetime.max.replace(tzinfo=ZONES[1]))
@example(datetime.min.replace(tzinfo=ZONES[1]))
@example(datetime.max.replace(tzinfo=ZONES[2]))
@example(datetime.min.replace(tzinfo=ZONES[2]))
def test_what_is_taken_can_be_kept_carried_and_shown_everywhere(value: Any) -> None:
    try:
        at = options.run_after(value)
    except InvalidOption as error:
        assert "use a time between" in str(error)
        return
    assert at is not None
    carried = clock.from_seconds(float(repr(at.timestamp())))
    assert abs((carried - at).total_seconds()) < 1e-4
    for zone in ZONES:
        assert carried.astimezone(zone).isoformat() and at.astimezone(zone).isoformat()


# limits


def task(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**fields)


def test_a_plain_task_has_no_options_and_passes() -> None:
    spec.check(task())
    spec.check(task(max_attempts=5, timeout=30, hard_timeout=60.5, backoff={"base": 1}))


@pytest.mark.parametrize(
    "fields,said",
    [
        ({"max_attempts": 0}, "max_attempts is 0; use a whole number from 1 to 1000"),
        ({"max_attempts": True}, "max_attempts is True"),
        ({"max_attempts": 2.0}, "max_attempts is 2.0"),
        ({"timeout": 0}, "timeout is 0; use a number of seconds, 0.01 or more"),
        ({"timeout": "5"}, "timeout is '5'"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"hard_timeout": -1}, "hard_timeout is -1"),
        ({"timeout": 30, "hard_timeout": 10}, "hard_timeout is 10 s, which is before the timeout of 30 s"),
        ({"backoff": "soon"}, "backoff must be seconds"),
        ({"atomic": 1}, "atomic is 1; use True or False"),
        ({"atomic": None}, "atomic is None; use True or False"),
    ],
)
def test_a_wrong_option_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        spec.check(task(**fields))
    assert said in str(caught.value)


def test_an_atomic_task_is_no_coroutine() -> None:
    async def send() -> None: ...

    spec.check(task(atomic=False, func=send))
    spec.check(task(atomic=True, func=len))
    with pytest.raises(
        InvalidOption, match=r"send' is atomic=True and a coroutine function; .* write it as a pl"
    ):
        spec.check(task(atomic=True, func=send))


def test_an_unknown_option_is_answered() -> None:
    options.unknown({"timeout": 1}, ("timeout", "backoff"), "@task")
    with pytest.raises(
        InvalidOption, match=r"@task has no option 'timout'\. Did you mean 'timeout'\? It takes timeout, b"
    ):
        options.unknown({"timout": 1}, ("timeout", "backoff"), "@task")
