"""What a database does on a bad day, to a group of outcomes that is being recorded: it is repeated, and counts once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from bench.runtime.servers import PostgresqlServer
from bench.runtime.waiting import wait_until
from queue_app.dispatch import keys
from queue_app.lifecycle import settle
from queue_app.lifecycle.recovery.orphans import recover_orphaned as redeliver_orphans
from queue_app.models import Attempt, Job
from queue_app.worker.child import backoff, outcome_writer
from queue_app.worker.child.claims import ClaimSet
from queue_app.worker.child.recorder import Recorder
from tests.app import tasks
from tests.support.jobs import WORKER, Child, drain, jobs, states, succeeded
from tests.support.marks import committed

pytestmark = committed


@pytest.fixture
def child() -> Child:
    return Child()


@pytest.fixture
def group(child: Child, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], Recorder]]:
    """Two jobs, and a recorder that has their outcomes and has not begun."""
    monkeypatch.setattr(backoff, "FIRST_PAUSE_SECONDS", 0.01)
    ids = jobs(2)
    recorder = Recorder(WORKER, child.holder, claims=ClaimSet(child.holder))
    for delivery in child.claim(2):
        outcome = succeeded(delivery)
        outcome.result = f'"{"x" * 20_000}"'
        recorder.put(outcome)
    yield ids, recorder


def errors_while(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The errors of the database that recording met meanwhile."""
    real, met = settle.record, []

    def record(*args: Any) -> set[str]:
        try:
            return real(*args)
        except OperationalError as error:
            met.append(str(error))
            raise

    with monkeypatch.context() as patch:
        patch.setattr(settle, "record", record)
        work()
    return met


def recorded_once(child: Child, ids: list[str]) -> None:
    assert states(ids) == ["succeeded"] * len(ids)
    assert Attempt.objects.filter(job_id__in=ids).count() == len(ids)
    assert not child.held()


def test_a_deadlock_is_repeated(
    child: Child,
    group: tuple[list[str], Recorder],
    postgresql_process: PostgresqlServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another transaction has locked the second row and wants the first one."""
    ids, recorder = group
    locked, go = threading.Event(), threading.Event()

    def other() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL deadlock_timeout = '1min'")  # the recorder is to be the victim
            cursor.execute("SELECT 1 FROM queue_app_job WHERE id = %s FOR UPDATE", [max(ids)])
            locked.set()
            go.wait(30)
            cursor.execute("SELECT 1 FROM queue_app_job WHERE id = %s FOR UPDATE", [min(ids)])
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert locked.wait(30)

    def work() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET deadlock_timeout = '100ms'")
        # In one transaction the recorder locks the first row, waits for the second, and the circle is closed.
        threading.Timer(0.05, go.set).start()
        recorder.flush()

    met = errors_while(work, monkeypatch)
    thread.join()
    assert met and "deadlock detected" in met[0]
    recorded_once(child, ids)


def test_a_serialization_failure_is_repeated(
    child: Child,
    group: tuple[list[str], Recorder],
    postgresql_process: PostgresqlServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The project has chosen REPEATABLE READ, and somebody changes the row between snapshot and update."""
    ids, recorder = group
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    locked, go = threading.Event(), threading.Event()

    def other() -> None:
        with transaction.atomic():
            Job.objects.filter(pk=ids[1]).update(priority=7)
            locked.set()
            go.wait(30)
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert locked.wait(30)

    def work() -> None:
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

        def release() -> None:
            with postgresql_process.connect(autocommit=True) as admin:
                wait_until(lambda: admin.execute(waits).fetchone()[0], 30, "the recorder waits for the row")  # type: ignore[index]
            go.set()

        threading.Thread(target=release).start()
        recorder.flush()

    met = errors_while(work, monkeypatch)
    thread.join()
    connection.close()
    assert met and "could not serialize access" in met[0]
    recorded_once(child, ids)


def test_a_full_disk_keeps_the_outcomes_until_there_is_room(
    child: Child, group: tuple[list[str], Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite can be told how large its file may become")
    ids, recorder = group
    monkeypatch.setattr(outcome_writer, "refresh", lambda **_: None)  # the limit is one of this connection
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE filler (text)")
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OperationalError, match="full"):
            while True:
                cursor.execute("INSERT INTO filler VALUES (%s)", ["x" * 100])
    said: list[bool] = []

    def make_room(seconds: float) -> None:
        said.append(recorder.can_record.is_set())
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA max_page_count = 1000000")

    monkeypatch.setattr(backoff.time, "sleep", make_room)
    met = errors_while(recorder.flush, monkeypatch)
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE filler")
    assert met == ["database or disk is full"]
    assert said == [False], "nothing is claimed meanwhile"
    recorded_once(child, ids)


def test_an_enqueue_that_the_database_refuses_is_the_callers_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is promised then, and nothing starts."""
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite can be told how large its file may become")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM")  # or what earlier tests deleted leaves room
        pages = cursor.execute("PRAGMA page_count").fetchone()[0]
        cursor.execute(f"PRAGMA max_page_count = {pages}")
    try:
        with pytest.raises(OperationalError, match="full"):
            tasks.echo.enqueue_many([(("x" * 1_000,), {}) for _ in range(500)])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA max_page_count = 1000000")
    assert not Job.objects.exists()
    assert drain() == []


def test_rows_in_good_hands_do_not_starve_those_behind_them() -> None:
    """Of those that say `running`, the first ones are held by a child, however many there are."""
    ids = jobs(6)
    child = Child()
    child.claim(5)
    old = "2020-01-01T00:00:00Z"
    Job.objects.filter(pk__in=ids).update(
        state="running", last_attempted_at=old, started_at=old, worker_id=WORKER
    )
    gone = Child(serial=2)
    gone.claim()
    gone.client.delete(keys.held("default", gone.holder))
    assert redeliver_orphans(gone.client, limit=2) == 1
    assert drain() == [ids[5]]


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """PostgreSQL refuses every new attempt, as it does when it cannot extend a file."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;"
            " CREATE TRIGGER full_disk BEFORE INSERT ON queue_app_attempt EXECUTE FUNCTION full_disk()"
        )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER full_disk ON queue_app_attempt; DROP FUNCTION full_disk()")


def test_outcomes_wait_for_room_on_the_disk(postgresql_process: PostgresqlServer) -> None:
    """Nothing is claimed meanwhile, nothing let go of, and it is recorded once."""
    ids = jobs(2)
    child = Child()
    deliveries = child.claim(2)
    claims = ClaimSet(child.holder)
    claims.add(deliveries)
    recorder = Recorder(WORKER, child.holder, claims=claims)
    with full_disk():
        recorder.start()
        for delivery in deliveries:
            recorder.put(succeeded(delivery))
        wait_until(lambda: not recorder.can_record.is_set(), 10)
        assert child.held() == set(ids) and set(states(ids)) == {"queued"}
    wait_until(lambda: not child.held(), 20)
    recorder.stop()
    assert set(states(ids)) == {"succeeded"} and recorder.can_record.is_set()
    assert Attempt.objects.count() == 2
