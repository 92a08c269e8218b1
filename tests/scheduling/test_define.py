"""Schedules as they are written: what is refused, and `define` in the code of a project."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from queue_app.exceptions import InvalidOption
from queue_app.models import Schedule
from queue_app.scheduling import schedules, tick
from tests.app import tasks
from tests.support.factories import ScheduleFactory
from tests.support.schedules import At, row, write

pytestmark = pytest.mark.django_db


@pytest.fixture
def at(at: At) -> At:
    """Set the clock to a time of 2026-11-22 in UTC; it says 11:00 at first."""
    at("11:00:00")
    return at


# what is refused


@pytest.mark.parametrize(
    "field,value,said",
    [
        ("name", " ", "name is"),
        ("name", "a\nb", "name is"),
        ("name", "x" * 101, "100"),
        ("task", "report", "dotted path"),
        ("task", "shop..report", "dotted path"),
        ("arguments", "{}", "arguments is not JSON"),
        ("arguments", "[[],[]]", "arguments is not JSON"),
        ("arguments", "[[NaN],{}]", "args[0]"),
        ("cron", "61 * * * *", "bad minute"),
        ("zone", "Europe/Berln", "Did you mean 'Europe/Berlin'"),
        ("queue", "no queue!", "queue_name is"),
        ("priority", 101, "-100 to 100"),
        ("jitter", -1, "greater than or equal to 0"),
        ("jitter", 86_401, "at most 86400"),
        ("missed", "often", "often"),
    ],
)
def test_each_field_is_checked(field: str, value: Any, said: str) -> None:
    schedule = ScheduleFactory.build(**{field: value})
    with pytest.raises(ValidationError) as caught:
        schedule.full_clean()
    assert list(caught.value.message_dict) == [field]
    assert said in str(caught.value.message_dict[field])


def test_names_are_given_once() -> None:
    ScheduleFactory(name="report")
    with pytest.raises(ValidationError, match="already exists"):
        ScheduleFactory.build(name="report").full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        ScheduleFactory(name="report")


@pytest.mark.parametrize(
    "values", [{"paused": True}, {"next_at": None}, {"priority": 101}, {"missed": "no"}, {"jitter": -1}]
)
def test_the_database_refuses_what_cannot_be(values: dict[str, Any]) -> None:
    schedule = ScheduleFactory()
    with pytest.raises(IntegrityError), transaction.atomic():
        write(schedule, **values)


def test_what_is_never_due_is_not_written() -> None:
    for wrong in ({"cron": "0 0 30 2 *"}, {"zone": "Mars"}):
        with pytest.raises(InvalidOption):
            ScheduleFactory(**wrong)
    assert not Schedule.objects.exists()


# in code


def test_define_creates_and_then_brings_up_to_date(at: At) -> None:
    first = Schedule.objects.define("report", tasks.noop, "0 6 * * *", args=(1, (2,)), kwargs={"x": 3})
    found = row(first)
    assert (found.task, found.args, found.kwargs) == ("tests.app.tasks.noop", [1, [2]], {"x": 3})
    assert (found.zone, found.missed, found.priority, found.next_at) == ("UTC", "once", None, first.next_at)
    schedules.pause(found)
    again = Schedule.objects.define(
        "report", "tests.app.tasks.echo", "0 7 * * *", priority="high", zone="Asia/Tokyo"
    )
    found = row(first)
    assert again.pk == first.pk
    assert (found.task, found.args, found.priority, found.zone) == (
        "tests.app.tasks.echo",
        [],
        50,
        "Asia/Tokyo",
    )
    assert found.paused and found.next_at is None


def test_define_at_each_deployment_loses_no_tick(at: At) -> None:
    Schedule.objects.define("report", tasks.noop, "0 * * * *")
    at("12:00:30")  # the tick of 12:00 is still to come
    Schedule.objects.define("report", tasks.noop, "0 * * * *", jitter=3)
    assert tick.enqueue_due().jobs == 1


def test_define_names_what_is_wrong() -> None:
    with pytest.raises(InvalidOption, match="Did you mean 'queue'"):
        Schedule.objects.define("report", tasks.noop, "0 6 * * *", quue="mail")
    with pytest.raises(InvalidOption, match="priority is 'urgent'"):
        Schedule.objects.define("report", tasks.noop, "0 6 * * *", priority="urgent")
    with pytest.raises(ValidationError) as caught:
        Schedule.objects.define("report", tasks.noop, "0 6 * *", args=[object()])
    assert "args[0] is of type builtins.object" in str(caught.value)
    with pytest.raises(ValidationError) as caught:
        Schedule.objects.define("", "report", "0 6 * *", queue="!")
    assert set(caught.value.message_dict) == {"name", "task", "cron", "queue"}
    assert not Schedule.objects.exists()
