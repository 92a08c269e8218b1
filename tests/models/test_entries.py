"""What Redis carries of rows that wait: the same whichever way they are read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from queue_app import clock, conf
from queue_app.domain import ids
from queue_app.domain.delivery import Delivery
from queue_app.domain.envelope import FIELDS, LANE
from queue_app.domain.states import DISPATCHED, FINAL, JobState
from queue_app.lifecycle.entries import entries_of_waiting, entry_of_row
from queue_app.models import Job
from queue_app.models.sql import generic
from tests.support.factories import JobFactory

pytestmark = pytest.mark.django_db

times = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
#: Names do not look like this, and yet.
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
small = st.integers(0, 30)


@st.composite
def rows(draw: st.DrawFn) -> Job:
    """A row that waits."""
    state = draw(st.sampled_from(sorted(DISPATCHED)))
    attempt = draw(st.integers(1, 30) if state == JobState.RETRYING else small)
    return Job(
        id=ids.new_id(),
        state=state,
        queue="mail",
        task=draw(words),
        backend=draw(words),
        priority=draw(st.integers(-100, 100)),
        payload=draw(st.sampled_from(['[[1],{"x":"]"}]', "[[],{}]", '[["' + "x" * 9_000 + '"],{}]'])),
        attempt=attempt,
        failures=draw(st.integers(0, attempt)),
        deaths=draw(st.integers(0, attempt)),
        max_attempts=draw(st.integers(1, 100)),
        timeout=draw(st.none() | st.floats(0.001, 1e9)),
        enqueued_at=draw(times),
        run_after=draw(times) if state != JobState.QUEUED else draw(st.none() | times),
        started_at=draw(st.none() | times),
        suspect=draw(st.booleans()),
        lane=draw(st.sampled_from([LANE, "tenant 7", "é:]"])),
        meta=draw(st.none() | st.sampled_from(['{"a":"é"}', '{"by":["]"],"x":"\\""}'])),
    )


def said(raw: str) -> tuple[Any, ...]:
    delivery = Delivery("mail", "x", raw, 0.0)
    assert not delivery.unreadable
    return tuple(getattr(delivery, name) for name in (*(f.name for f in FIELDS), "args", "kwargs"))


@hypothesis_settings(
    max_examples=40,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(rows(), min_size=1, max_size=5))
def test_many_read_at_once_say_what_each_says(made: list[Job]) -> None:
    Job.objects.all().delete()
    Job.objects.bulk_create(made)
    wanted = [str(job.pk) for job in reversed(made)]
    single = [entry_of_row(Job.objects.get(pk=pk)) for pk in wanted]
    many = entries_of_waiting(wanted)
    plain = generic.read_waiting(connection, wanted, conf.get().BODY_LIMIT)
    assert [(job_id, at, said(raw)) for job_id, at, raw in many] == [
        (job_id, at, said(raw)) for job_id, at, raw in single
    ]
    bodies = {row.id: row.head + (row.payload or "null") for row in plain}
    assert {job_id: said(raw) for job_id, raw in bodies.items()} == {
        job_id: said(raw) for job_id, _, raw in single
    }
    assert sorted((row.id, row.at) for row in plain) == sorted(
        (str(job.pk), job.run_after.timestamp() if job.run_after else 0.0) for job in made
    )


@pytest.mark.parametrize("state", sorted(FINAL | {JobState.RUNNING, JobState.BLOCKED}))
def test_what_does_not_wait_is_left_out(state: str) -> None:
    job = JobFactory(state=state)
    assert entries_of_waiting([str(job.pk)]) == []


def test_what_shall_be_cancelled_is_left_out() -> None:
    job = JobFactory(state=JobState.QUEUED, cancel_requested_at=clock.now())
    assert entries_of_waiting([str(job.pk), ids.new_text()]) == []
