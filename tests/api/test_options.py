"""OPTIONS: tells the bodies that the methods of an address take, to those who may use them."""

from __future__ import annotations

import pytest

from queue_app.domain.rights import Right
from tests.api.test_rights import V1, client_of, staff
from tests.support.factories import ScheduleFactory

pytestmark = pytest.mark.django_db


def test_the_fields_of_a_body_are_told_to_those_who_may_send_it() -> None:
    schedule = ScheduleFactory()
    both = client_of(staff(Right.VIEW_SCHEDULE, Right.MANAGE_SCHEDULE))
    assert "cron" in both.options(f"{V1}schedules/").json()["actions"]["POST"]
    assert list(both.options(f"{V1}schedules/{schedule.pk}/run/").json()["actions"]["POST"]) == ["reason"]


def test_they_are_not_told_to_others() -> None:
    looker = client_of(staff(Right.VIEW_SCHEDULE))
    assert "actions" not in looker.options(f"{V1}schedules/").json()
