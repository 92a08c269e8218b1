"""Ticks: each is enqueued once, ahead of its time; what is missed follows the policy; nobody stops others."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
from django.db import Error, OperationalError, ProgrammingError, connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from queue_app.dispatch import connection as redis_connection
from queue_app.dispatch import epochs, keys
from queue_app.exceptions import LeadershipLost
from queue_app.lifecycle.recovery import rebuild
from queue_app.maintenance.enqueue_ticks import EnqueueTicks
from queue_app.maintenance.leader import DUE_CHECK_SECONDS, Leader
from queue_app.models import Job, Schedule
from queue_app.models.schedule import AHEAD
from queue_app.queries.queues import depths_of
from queue_app.scheduling import tick
from tests.support.factories import ScheduleFactory
from tests.support.jobs import term_of
from tests.support.marks import committed
from tests.support.refusals import read_only, renamed
from tests.support.schedules import At, moment, row, starts, ticked

pytestmark = pytest.mark.django_db


# on time


def test_a_tick_is_enqueued_ahead_with_its_time_as_the_start(at: At) -> None:
    at("11:58:00")
    schedule = ScheduleFactory(cron="*/5 * * * *", arguments='[[1],{"x":2}]')
    assert schedule.next_at == moment("12:00:00")
    at("11:59:49")
    assert ticked() == 0
    at("11:59:51")
    assert ticked() == 1
    assert ticked() == 0
    job = Job.objects.get()
    assert (job.task, job.args, job.kwargs) == ("tests.app.tasks.noop", [1], {"x": 2})
    assert (job.state, job.run_after) == ("scheduled", moment("12:00:00"))
    found = row(schedule)
    assert (found.next_at, found.last_at) == (moment("12:05:00"), moment("12:00:00"))
    assert found.last_job_id == job.pk


def test_the_look_ahead_covers_the_time_between_two_runs() -> None:
    assert EnqueueTicks.longest() + DUE_CHECK_SECONDS < AHEAD < 60


def test_the_jobs_are_pushed_when_the_tick_commits(at: At) -> None:
    at("2030-01-01T11:59:00")
    ScheduleFactory()
    at("2030-01-01T11:59:55")  # later than by the clock of Redis
    with TestCase.captureOnCommitCallbacks(execute=True):
        assert ticked() == 1
    assert depths_of(["default"])["default"]["due_later"] == 1


@committed
def test_ticks_are_rows_and_survive_an_empty_redis(at: At, clean_redis: redis.Redis) -> None:
    at("2030-01-01T11:59:00")
    ScheduleFactory()
    at("2030-01-01T11:59:55")  # later than by the clock of Redis
    client = redis_connection.client()
    clean_redis.flushall()
    assert not epochs.all_open(client)
    assert EnqueueTicks().run(term_of(client, "a")) == 1
    rebuild.at_once(client)
    assert depths_of(["default"])["default"]["due_later"] == 1, "not pushed twice"


def test_jitter_lies_between_the_time_and_so_many_seconds_later(at: At) -> None:
    at("11:00:00")
    for _ in range(40):
        ScheduleFactory(jitter=3)
    at("11:59:55")
    assert ticked() == 40
    late = {(start - moment("12:00:00")).total_seconds() for start in starts() if start is not None}
    assert late == {0, 1, 2, 3}


def test_all_runs_of_a_night_in_which_the_clocks_change(at: At) -> None:
    at("2026-10-24T20:00:00")
    rows = {
        cron: ScheduleFactory(cron=cron, zone="Europe/Berlin")
        for cron in ("30 2 * * *", "0 */2 * * *", "0 3 * * *")
    }
    seen: dict[str, list[str]] = {cron: [] for cron in rows}
    start = moment("2026-10-24T22:00:00")  # midnight
    for seconds in range(0, 6 * 3_600, 60):
        at((start + timedelta(seconds=seconds)).isoformat()[:19])
        ticked()
        for cron, schedule in rows.items():
            last = row(schedule).last_at
            text = last.astimezone(ZoneInfo("Europe/Berlin")).strftime("%H:%M%z") if last else ""
            if text and text not in seen[cron]:
                seen[cron].append(text)
    assert seen == {
        "30 2 * * *": ["02:30+0200"],
        "0 */2 * * *": ["00:00+0200", "02:00+0200", "02:00+0100", "04:00+0100"],
        "0 3 * * *": ["03:00+0100"],
    }
    assert Job.objects.count() == 6


# each once


@committed
def test_two_who_tick_at_once_enqueue_each_tick_once(postgresql_process: Any, at: At) -> None:
    at("11:00:00")
    schedules = [ScheduleFactory(arguments=f"[[{n}],{{}}]") for n in range(30)]
    at("12:00:00")
    both = threading.Barrier(2)
    found: list[int] = []

    def run() -> None:
        try:
            found.append(ticked(check=both.wait))  # type: ignore[arg-type]  # each has seen them all by then
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(found) == 30
    assert sorted(job.args[0] for job in Job.objects.all()) == list(range(30))
    assert {row(schedule).next_at for schedule in schedules} == {moment("13:00:00")}


def test_where_rows_cannot_be_locked_the_later_one_takes_nothing(
    at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else ticks between the reading of the rows and their move."""
    at("11:00:00")
    schedule = ScheduleFactory()
    at("12:00:00")
    enqueue = tick._enqueue_jobs

    def meanwhile(*args: Any) -> None:
        enqueue(*args)
        Schedule.objects.update(next_at=moment("13:00:00"))

    monkeypatch.setattr(tick, "_enqueue_jobs", meanwhile)
    with pytest.raises(tick.IllegalTransition):
        ticked()
    monkeypatch.undo()
    at("12:00:00")
    assert Job.objects.count() == 0
    assert row(schedule).next_at == moment("12:00:00"), "the whole transaction was taken back"


@pytest.mark.parametrize("where", ["_enqueue_jobs", "_advance"])
def test_a_crash_before_the_commit_leaves_neither_job_nor_move(
    at: At, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    at("11:00:00")
    schedule = ScheduleFactory()
    at("12:00:00")
    original = getattr(tick, where)

    def crash(*args: Any) -> None:
        original(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tick, where, crash)
        with pytest.raises(KeyboardInterrupt):
            ticked()
    assert Job.objects.count() == 0
    assert row(schedule).next_at == moment("12:00:00")
    assert row(schedule).error == "", "no fault of the schedule"
    assert ticked() == 1


@committed
def test_a_database_that_refuses_writes_is_no_fault_of_the_schedules(at: At) -> None:
    at("11:00:00")
    schedules = ScheduleFactory.create_batch(2)
    at("12:00:00")
    with read_only(), pytest.raises(Error):
        ticked()
    with renamed("queue_app_job", "payload"), pytest.raises(Error):
        ticked()
    assert [row(schedule).error for schedule in schedules] == ["", ""]
    assert ticked() == 2


@pytest.mark.parametrize("kind", [OperationalError, ProgrammingError])
def test_a_schedule_whose_own_code_fails_in_a_database_stops_no_other(
    at: At, monkeypatch: pytest.MonkeyPatch, kind: type[Error]
) -> None:
    """As a receiver does that writes into a table which is not there."""

    def fail(*call: Any) -> list[str]:
        raise kind("no such table")

    broken, good = ScheduleFactory(task="tests.app.tasks.echo"), ScheduleFactory()
    at("11:00:00")
    Schedule.objects.update(next_at=moment("12:00:00"))
    enqueuer = tick.enqueuer

    def refusing(task: str, *more: Any) -> Any:
        return fail if task == "tests.app.tasks.echo" else enqueuer(task, *more)

    monkeypatch.setattr(tick, "enqueuer", refusing)
    at("12:00:00")
    assert ticked() == 1
    assert row(broken).error == f"{kind.__name__}: no such table" and row(good).error == ""


@committed
def test_the_next_leader_goes_on(at: At) -> None:
    at("11:00:00")
    ScheduleFactory(cron="*/5 * * * *", missed="all")
    at("11:04:55")
    Leader("a", threading.Event(), duties=(EnqueueTicks(),)).step()
    assert Job.objects.count() == 1
    client = redis_connection.client()
    client.delete(keys.leader())  # it was killed
    at("11:10:08")
    Leader("b", threading.Event(), duties=(EnqueueTicks(),)).step()
    assert starts() == [moment("11:05:00"), None], "11:10 is late, 11:05 does not come again"


def test_a_deposed_leader_enqueues_nothing(at: At) -> None:
    def check() -> None:
        raise LeadershipLost()

    at("11:00:00")
    ScheduleFactory()
    at("12:00:00")
    with pytest.raises(LeadershipLost):
        ticked(check=check)
    assert Job.objects.count() == 0


# what it costs


def test_an_idle_tick_costs_one_query_that_uses_the_index(at: At) -> None:
    at("11:00:00")
    ScheduleFactory.create_batch(3)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert ticked() == 0
    assert len(queries) == 1
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            ("EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN ") + queries[0]["sql"]
        )
        assert "queue_app_schedule_due" in str(cursor.fetchall())


def test_many_that_are_due_at_once_cost_few_queries(at: At) -> None:
    at("11:00:00")
    ScheduleFactory.create_batch(tick.SCHEDULES_PER_TRANSACTION + 50)
    at("12:00:00")
    with CaptureQueriesContext(connection) as queries:
        assert ticked() == tick.SCHEDULES_PER_TRANSACTION + 50
    assert len(queries) < 20
    assert set(Schedule.objects.values_list("next_at", "last_at")) == {
        (moment("13:00:00"), moment("12:00:00"))
    }
    assert set(Schedule.objects.values_list("last_job_id", flat=True)) == set(
        Job.objects.values_list("pk", flat=True)
    )
