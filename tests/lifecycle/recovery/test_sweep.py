"""The sweep: a row that was committed and never pushed is found soon, whatever else waits or has ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
import redis
from django.db import connection as database
from django.db import transaction
from django.test.utils import CaptureQueriesContext

from queue_app import clock, conf
from queue_app.dispatch import connection, finding, keys, queues
from queue_app.domain import ids
from queue_app.domain.states import JobState
from queue_app.exceptions import StoreUnavailable
from queue_app.lifecycle import push, release, tokens
from queue_app.lifecycle.recovery import sweep
from queue_app.lifecycle.recovery.sweep import NewRowSweep
from queue_app.maintenance import leader, sweep_new
from queue_app.models import Job, Leadership
from queue_app.models.sql import postgresql_scans
from tests.app import tasks
from tests.support.factories import JobFactory
from tests.support.jobs import drain, jobs, term_of
from tests.support.marks import committed

pytestmark = committed

MANY = 50_000


@pytest.fixture(autouse=True)
def ids_follow_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it is moved."""
    serial = count()
    monkeypatch.setattr(ids, "new_text", lambda: str(UUID(int=ids.floor(clock.seconds()).int + next(serial))))


@pytest.fixture
def travel(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock of this process by so many seconds, on top of what it was moved before."""

    def by(seconds: float) -> None:
        monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + seconds)

    return by


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that Redis was asked about."""
    asked: list[str] = []
    missing = finding.missing

    def ask(client: redis.Redis, by_queue: dict[str, list[str]]) -> dict[str, tuple[list[str], str]]:
        asked.extend(job_id for found in by_queue.values() for job_id in found)
        return missing(client, by_queue)

    monkeypatch.setattr(finding, "missing", ask)
    return asked


def lose(number: int = 1, at: float | None = None, queue: str = "default") -> list[str]:
    """Jobs whose process died between commit and push.

    Args:
        at: when their ids were made, if not now: their transaction was open since then.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(push, "push_quietly", lambda by_queue, made: set())
        if at is not None:
            made = ids.new_text
            patched.setattr(
                ids, "new_text", lambda: str(UUID(int=ids.floor(at).int + UUID(made()).int % 2**32))
            )
        return jobs(number, task=tasks.noop.using(queue_name=queue))


def prefetch(number: int) -> None:
    tasks.noop.enqueue_many([((), {}) for _ in range(number)])


def test_a_lost_row_is_due_for_the_sweep_within_ten_seconds() -> None:
    assert conf.Settings().SWEEP_GRACE + sweep_new.SweepNew.longest() + leader.DUE_CHECK_SECONDS < 10
    assert sweep.WINDOW_SECONDS > conf.Settings().LEASE, "also when the leader has just changed"


def test_a_lost_row_is_found_at_once_behind_a_long_backlog(
    travel: Callable[[float], None], looked: list[str]
) -> None:
    travel(-600)
    prefetch(MANY if database.vendor == "postgresql" else MANY // 5)  # the ORM's inserts are slow
    travel(600)
    (lost,) = lose()
    travel(6)
    assert NewRowSweep().run(connection.client()) == 1
    assert looked == [lost], "and nothing of the backlog was asked for"


def test_a_lost_row_in_the_middle_of_a_burst_is_found(
    travel: Callable[[float], None], looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "MAX_ROWS_PER_QUEUE", 50)
    prefetch(2_500)
    (lost,) = lose()
    prefetch(2_500)
    travel(6)
    recent, client = NewRowSweep(), connection.client()
    assert [recent.run(client, limit=2_000) for _ in range(4)] == [0, 1, 0, 0]
    # Each row once, and the newest of those that were seen before once more.
    assert len(set(looked)) == 5_001
    assert len(looked) <= 5_001 + 4 * 51
    assert looked.count(lost) == 1


def test_young_rows_are_left_to_their_own_push(travel: Callable[[float], None]) -> None:
    recent, client = NewRowSweep(), connection.client()
    lose()
    assert recent.run(client) == 0
    travel(6)
    assert recent.run(client) == 1
    assert recent.run(client) == 0


def test_a_commit_that_came_late_is_found(travel: Callable[[float], None]) -> None:
    """An atomic block of some seconds: the id is older than what was swept already."""
    recent, client = NewRowSweep(), connection.client()
    prefetch(3)
    travel(20)
    assert recent.run(client) == 0
    (late,) = lose(at=clock.seconds() - 15)
    travel(2)
    assert recent.run(client) == 1
    assert late in drain()


def test_a_row_that_was_locked_when_it_was_looked_at_is_looked_at_again(
    travel: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, looked: list[str]
) -> None:
    """Somebody changed its priority just then, or looked at it FOR UPDATE."""
    monkeypatch.setattr(sweep, "MAX_ROWS_PER_QUEUE", 2)
    recent, client = NewRowSweep(), connection.client()
    locked, free, *more = lose(6)  # more than are read at first
    travel(6)
    entries = release.entries_of_waiting
    with monkeypatch.context() as patched:
        patched.setattr(
            release,
            "entries_of_waiting",
            lambda ids: [entry for entry in entries(ids) if entry[0] not in (locked, more[-1])],
        )
        assert recent.run(client) == 4
        assert recent.run(client) == 0
    assert recent.run(client) == 2
    assert sorted(drain()) == sorted([locked, free, *more])
    del looked[:]
    recent.run(client)
    assert looked == [], "once is enough"


def test_one_that_stays_locked_is_left_to_the_walk(
    travel: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, looked: list[str]
) -> None:
    monkeypatch.setattr(release, "entries_of_waiting", lambda ids: [])
    recent, client = NewRowSweep(), connection.client()
    (locked,) = lose()
    travel(6)
    for _ in range(sweep.MAX_TRIES + 5):
        assert recent.run(client) == 0
    assert looked == [locked] * sweep.MAX_TRIES


def test_a_commit_that_came_very_late_is_found_by_the_walk(travel: Callable[[float], None]) -> None:
    recent, client = NewRowSweep(), connection.client()
    prefetch(10)
    travel(3_600)
    (late,) = lose(at=clock.seconds() - 1_800)
    travel(6)
    assert recent.run(client) == 0
    assert sweep.push_missing_backlog(client) == (1, None)
    assert late in drain()


def test_what_was_not_pushed_in_an_outage_is_caught_up_with(
    travel: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis was cut off for ten minutes, and kept what it had."""
    recent, client = NewRowSweep(), connection.client()
    prefetch(1)
    travel(20)
    assert recent.run(client) == 0
    (early,) = lose()
    travel(600)
    with monkeypatch.context() as patched:
        patched.setattr(finding, "missing", _raise)
        with pytest.raises(StoreUnavailable):
            recent.run(client)
    assert recent.run(client) == 1
    assert early in drain()


def _raise(*args: Any) -> None:
    raise StoreUnavailable("cut off")


def test_queues_that_nobody_has_ever_heard_of_are_swept(travel: Callable[[float], None]) -> None:
    lost = {name: lose(2, queue=name) for name in ("a", "mail", "z.9")}
    travel(6)
    client = connection.client()
    assert queues.known(client) == set()
    assert NewRowSweep().run(client) == 6
    assert queues.known(client) == set(lost), "and they are listed"
    for name, expected in lost.items():
        assert drain(queue=name) == expected


def test_the_walk_goes_through_all_queues_in_parts(travel: Callable[[float], None]) -> None:
    lost = {name: lose(3, queue=name) for name in ("a", "b", "c")}
    travel(6)
    client, place, counts = connection.client(), None, []
    while True:
        found, place = sweep.push_missing_backlog(client, limit=2, after=place)
        counts.append(found)
        if place is None:
            break
    assert counts == [2, 2, 2, 2, 1]
    for name, expected in lost.items():
        assert drain(queue=name) == expected


def test_a_new_leader_looks_back_unless_nobody_else_led(
    travel: Callable[[float], None],
) -> None:
    duty = sweep_new.SweepNew()
    client = connection.client()
    tokens.next_token()
    jobs(1)
    travel(20)

    def found(token: int) -> int:
        client.delete(keys.leader())
        Leadership.objects.update(token=token - 1)
        term = term_of(client, "a")
        assert term.token == token
        return duty.run(term)

    assert found(1) == 0
    lose()
    travel(600)
    assert found(2) == 1, "nobody led for ten minutes: it goes on where it was"
    lose()
    travel(600)
    assert found(4) == 0, "somebody has swept meanwhile; if not, the walk finds it"
    lose()
    travel(sweep.WINDOW_SECONDS)
    assert found(6) == 1, "but what was new since the leader changed is looked at"


def test_its_questions_are_answered_by_the_index_of_waiting_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that neither the finished history nor the backlog behind is read."""
    for n in range(300):
        JobFactory(state=JobState.SUCCEEDED, queue=f"q{n % 3}", history=False)
    at = clock.now() - timedelta(seconds=20)
    JobFactory.create_batch(20, state=JobState.QUEUED, queue="q1", enqueued_at=at)
    with database.cursor() as cursor:
        cursor.execute("ANALYZE")
    monkeypatch.setattr(sweep, "MAX_ROWS_PER_QUEUE", 5)
    monkeypatch.setattr(sweep, "MIN_ROWS_PER_QUEUE", 5)
    client = connection.client()
    with CaptureQueriesContext(database) as queries:
        assert NewRowSweep().run(client) == 20
        sweep.push_missing_backlog(client, after=("q0", ids.floor(0)))
    asked = [q["sql"] for q in queries if "queue_app_job" in q["sql"] and "payload" not in q["sql"]]
    assert len(asked) >= 3, asked
    for question in asked:
        plan = explain(question)
        assert "queue_app_job_waiting" in plan and "Seq Scan" not in plan, plan


def explain(question: str) -> str:
    """How the database would answer it, with the settings under which the sweep asks."""
    with transaction.atomic(), database.cursor() as cursor:
        if database.vendor == "postgresql":
            cursor.execute(postgresql_scans._IN_ORDER)
            cursor.execute(f"EXPLAIN {question}")
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {question}")
        return "\n".join(str(row) for row in cursor.fetchall())


def test_the_words_of_the_lifecycle_have_their_indexes() -> None:
    """On every database: what is finished is not read to find what waits for a time, or is to be cancelled."""
    JobFactory.create_batch(300, state=JobState.SUCCEEDED, history=False)
    JobFactory.create_batch(3, state=JobState.SCHEDULED)
    JobFactory.create_batch(2, state=JobState.RUNNING, cancel_requested_at=clock.now())
    with database.cursor() as cursor:
        cursor.execute("ANALYZE")
    due = Job.objects.timed().filter(run_after__lte=clock.now()).order_by("run_after")
    cancelling = Job.objects.cancelling().order_by("id")
    for question, index in ((due, "queue_app_job_timed"), (cancelling, "queue_app_job_cancelling")):
        plan = question.values_list("pk")[:100].explain()
        assert index in plan, plan
