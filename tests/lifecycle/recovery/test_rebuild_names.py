"""Which queues a rebuild has to look at: found by name, without reading the rows that wait in them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from queue_app import clock, conf
from queue_app.dispatch import connection
from queue_app.domain import ids
from queue_app.domain.states import JobState
from queue_app.lifecycle import release
from queue_app.lifecycle.recovery import rebuild
from queue_app.models import Job, Queue
from tests.support.marks import committed, on_postgresql_alone
from tests.support.plans import explained

pytestmark = committed

EACH = 2_000


@pytest.fixture
def rows() -> None:
    """Three queues with many waiting rows each, one whose rows are near their time, and one whose rows are not."""
    kinds = [(f"q{n}", JobState.QUEUED, None) for n in range(3)]
    kinds += [("near", JobState.SCHEDULED, 30.0), ("far", JobState.RETRYING, 86_400.0)]
    for queue, state, after in kinds:
        at = None if after is None else clock.now() + timedelta(seconds=after)
        Job.objects.bulk_create(
            Job(id=ids.new_text(), task="tests.app.tasks.noop", queue=queue, state=state, run_after=at)
            for _ in range(100 if queue == "near" else EACH)
        )
    Queue.objects.create(name="row")
    if database.vendor == "postgresql":
        with database.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE queue_app_job")


def test_names_come_from_the_record(rows: None) -> None:
    """What is not near its time is not in Redis."""
    assert set(rebuild.names_of_queues(connection.client())) == {"q0", "q1", "q2", "near", "row"}


def test_a_few_names_at_a_time_with_a_check_between(rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "NAMES_PER_QUERY", 2)
    monkeypatch.setattr(release, "ROWS_PER_STEP", 30)
    checked: list[int] = []
    with CaptureQueriesContext(database) as queries:
        found = rebuild.names_of_queues(
            connection.client(), lambda: checked.append(len(queries.captured_queries))
        )
    assert {"q0", "q1", "q2", "near"} <= set(found)
    assert len(checked) == 2 + 4 and len(set(checked)) == len(checked)


def test_a_begin_checks_while_it_looks_for_names(rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its leadership must not lapse meanwhile: then the next leader would begin again, without end."""

    class Over(Exception):
        pass

    def over() -> None:
        raise Over

    monkeypatch.setattr(rebuild, "names_in_redis", lambda client: [])
    with CaptureQueriesContext(database) as queries, pytest.raises(Over):
        rebuild.begin(connection.client(), "main", "x", over)
    assert len([q for q in queries if "queue_app_job" in q["sql"]]) <= 1


@on_postgresql_alone
def test_their_rows_are_not_read(rows: None) -> None:
    with explained() as plans:
        rebuild.names_of_queues(connection.client())
    asked = [plan for plan in plans if "queue_app_job" in plan.sql]
    assert asked
    assert sum(plan.buffers for plan in asked) < 100, [str(plan) for plan in asked]


def test_an_index_has_them_in_their_order(rows: None) -> None:
    if database.vendor == "postgresql":
        pytest.skip("test_their_rows_are_not_read says more")
    with CaptureQueriesContext(database) as queries:
        rebuild.names_of_queues(connection.client())
    (question,) = [q["sql"] for q in queries if "DISTINCT" in q["sql"]]
    with database.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {question}")
        plan = str(cursor.fetchall())
    assert "queue_app_job_waiting (queue>?)" in plan and "TEMP B-TREE" not in plan, plan


def test_what_may_be_near_by_another_hosts_clock_counts(rows: None) -> None:
    horizon = conf.get().DUE_HORIZON
    Job.objects.filter(queue="far").update(run_after=clock.now() + timedelta(seconds=1.5 * horizon))
    assert "far" in rebuild.names_of_queues(connection.client())
