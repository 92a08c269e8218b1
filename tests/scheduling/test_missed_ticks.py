"""What a schedule missed follows its policy, in parts, and stops neither others nor other duties."""

from __future__ import annotations

import pytest

from queue_app.dispatch import connection as redis_connection
from queue_app.maintenance.enqueue_ticks import EnqueueTicks
from queue_app.models import Job, Schedule
from queue_app.scheduling import tick
from tests.support.factories import ScheduleFactory
from tests.support.jobs import term_of
from tests.support.schedules import At, moment, row, starts, ticked

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "missed,now,late,ahead",
    [
        ("skip", "12:21:01", 0, 0),
        ("skip", "12:20:59", 1, 0),  # not missed: the leader may just have changed
        ("skip", "12:29:55", 0, 1),
        ("once", "12:20:30", 1, 0),
        ("once", "12:29:55", 1, 1),
        ("all", "12:20:30", 3, 0),
        ("all", "12:29:55", 3, 1),
    ],
)
def test_what_was_missed(at: At, missed: str, now: str, late: int, ahead: int) -> None:
    at("11:55:00")
    schedule = ScheduleFactory(cron="*/10 * * * *", missed=missed)
    at(now)
    assert ticked() == late + ahead
    assert starts() == [None] * late + [moment("12:30:00")] * ahead
    found = row(schedule)
    assert found.next_at == moment("12:40:00" if ahead else "12:30:00")
    expected = moment("12:30:00") if ahead else moment("12:20:00") if late else None
    assert found.last_at == expected
    assert ticked() == 0


def test_the_last_job_is_that_of_the_last_tick(at: At) -> None:
    at("12:15:00")
    ahead_alone = ScheduleFactory(cron="30 * * * *")
    at("11:55:00")
    late_and_ahead = ScheduleFactory(cron="*/10 * * * *")
    at("12:29:55")
    assert ticked() == 3
    for schedule in (ahead_alone, late_and_ahead):
        found = row(schedule)
        assert found.last_at == Job.objects.get(pk=found.last_job_id).run_after == moment("12:30:00")


@pytest.mark.parametrize("missed,count", [("skip", 1), ("once", 2)])
def test_after_years_a_schedule_goes_on_at_once(at: At, missed: str, count: int) -> None:
    at("2016-11-22T12:00:00")
    every_minute = ScheduleFactory(cron="* * * * *", missed=missed)
    rarely = ScheduleFactory(cron="0 0 29 2 *", missed=missed)
    at("2026-11-22T12:00:30")
    assert ticked() == count
    assert row(every_minute).last_at == moment("12:00:00")
    assert row(rarely).last_at == (moment("2024-02-29T00:00:00") if missed == "once" else None)
    assert row(rarely).next_at == moment("2028-02-29T00:00:00")


def test_all_that_was_missed_is_made_up_for_in_parts(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tick, "MAX_MISSED_TICKS", 4)
    at("11:00:00")
    many = ScheduleFactory(cron="* * * * *", missed="all")
    at("11:10:30")
    assert [tick.enqueue_due()[:2] for _ in range(4)] == [(4, True), (4, True), (2, False), (0, False)]
    assert row(many).next_at == moment("11:11:00")
    assert Job.objects.filter(run_after=None).count() == 10


def test_very_many_are_taken_up_in_turn_and_other_duties_go_on(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tick, "SCHEDULES_PER_TRANSACTION", 2)
    monkeypatch.setattr(tick, "MAX_JOBS_PER_TRANSACTION", 6)
    at("11:00:00")
    found = [ScheduleFactory(cron="* * * * *", missed="all") for _ in range(5)]
    at("11:10:30")
    client = redis_connection.client()
    term = term_of(client, "a")
    monkeypatch.setitem(tick.enqueue_due.__kwdefaults__, "seconds", 0.0)
    made, ticks = [], EnqueueTicks()
    while not made or term.unfinished:
        made.append(ticks.run(term))
    assert sum(made) == 50 and max(made) == 6, "no more than a chunk at a time"
    assert {row(schedule).next_at for schedule in found} == {moment("11:11:00")}


def test_one_that_cannot_be_enqueued_takes_nobodys_turn(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep the earliest place of all, and the time is only enough for them."""
    monkeypatch.setattr(tick, "SCHEDULES_PER_TRANSACTION", 2)
    broken = [ScheduleFactory() for _ in range(2)]
    Schedule.objects.update(cron="never", next_at=moment("10:00:00"))
    at("11:00:00")
    good = ScheduleFactory(cron="* * * * *")
    at("11:01:00")
    first = tick.enqueue_due(seconds=0.0)
    assert (first.jobs, first.unfinished) == (0, True)
    assert tick.enqueue_due(first.position, seconds=0.0).jobs == 1
    assert row(good).last_at == moment("11:01:00") and all(row(one).error for one in broken)


def test_the_duty_comes_again_at_once_while_something_is_left(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tick, "MAX_MISSED_TICKS", 4)
    at("11:00:00")
    ScheduleFactory(cron="* * * * *", missed="all")
    at("11:06:30")
    client = redis_connection.client()
    term = term_of(client, "a")
    ticks = EnqueueTicks()
    assert (ticks.run(term), term.unfinished) == (4, True)
    assert (ticks.run(term), term.unfinished) == (2, False)
