"""P3 and P4, with real workers: a database answers and refuses writes. Nothing is let go of that is not recorded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connections
from psycopg import sql

from bench.runtime.servers import PostgresqlServer
from bench.runtime.waiting import wait_until
from bench.runtime.workers import WorkerProcess
from queue_app.dispatch import connection, listing
from queue_app.domain.states import FINAL
from queue_app.models import Attempt, Job
from tests.app import atomic_tasks, tasks
from tests.app.models import Effect
from tests.support.marks import committed
from tests.support.refusals import renamed
from tests.support.whole_workers import (
    StartWorker,
    attempts,
    labels,
    lines,
    pids,
    wait_for_end,
    wait_for_lines,
)

pytestmark = committed

#: Jobs of each kind. Six jobs run at once.
COUNT = 6


@pytest.fixture
def admin(postgresql_process: PostgresqlServer) -> Iterator[psycopg.Connection]:
    """A session that may write whatever is switched; afterwards everything may."""
    options = "-c default_transaction_read_only=off"
    with postgresql_process.connect(autocommit=True, options=options) as session:
        yield session
        for statement in ("ALTER SYSTEM RESET ALL", _of_database("RESET default_transaction_read_only")):
            session.execute(statement)
        session.execute("SELECT pg_reload_conf()")
        wait_until(lambda: not is_read_only(postgresql_process), message="writes are allowed again")
        connections.close_all()


def _of_database(what: str) -> sql.Composed:
    name = connections["default"].settings_dict["NAME"]
    return sql.SQL("ALTER DATABASE {} {}").format(sql.Identifier(name), sql.SQL(what))  # type: ignore[arg-type]


def switch(admin: psycopg.Connection, to: str) -> None:
    admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = {to}")  # type: ignore[arg-type]
    admin.execute("SELECT pg_reload_conf()")


def is_read_only(server: PostgresqlServer) -> bool:
    """Whether new sessions of the server are."""
    with server.connect(autocommit=True) as session:
        row = session.execute("SHOW default_transaction_read_only").fetchone()
        return row is not None and row[0] == "on"


def start(worker: StartWorker) -> WorkerProcess:
    return worker("--processes", "2", "--slots", "3", settings={"LEASE": 2.0})


def enqueue(folder: Path, seconds: float) -> tuple[list[str], list[str]]:
    """Plain and atomic jobs, in turn, each of which takes so long."""
    plain, atomic = [], []
    for n in range(COUNT):
        plain.append(tasks.label.enqueue(str(folder), "ran", n, seconds).id)
        atomic.append(atomic_tasks.effect.enqueue(seconds).id)
    return plain, atomic


def said(process: WorkerProcess, what: str) -> int:
    return process.output().count(what)


def is_refused(process: WorkerProcess, folder: Path, ids: list[str], seconds: float, before: int = 0) -> None:
    """Wait until a child has met the refusal, once more than `before`, and the plain jobs that run now have ended.
    Redis knows then all that is not recorded."""
    end = max(float(line[1]) for line in lines(folder, "ran")) + seconds + 0.2
    wait_until(lambda: time.time() > end, 10)
    wait_until(lambda: said(process, "Lost the database: ") > before, 30, process.output)
    ended = {str(pk) for pk in Job.objects.filter(state__in=sorted(FINAL)).values_list("pk", flat=True)}
    going_on = [one for one in ids if one not in ended]
    assert not listing.unknown(connection.client(), {"default": going_on})


def everything_once(
    process: WorkerProcess, folder: Path, plain: list[str], atomic: list[str], children: list[int]
) -> None:
    assert Counter(wait_for_end(plain + atomic)) == {"succeeded": 2 * COUNT}
    assert sorted(labels(folder, "ran")) == [str(n) for n in range(COUNT)], "each ran once"
    assert [attempts(job_id) for job_id in plain] == [["succeeded"]] * COUNT
    assert Attempt.objects.filter(state="succeeded").count() == 2 * COUNT
    expected = Counter((job_id, label) for job_id in atomic for label in ("first", "second"))
    assert Counter(Effect.objects.values_list("job", "label")) == expected
    assert pids(process) == children, "no process has died of it"
    assert process.stop() == 0
    assert "Traceback" not in process.output()
    assert "cannot be recorded" not in process.output()


def test_a_database_that_is_switched_to_read_only_and_back(
    worker: StartWorker, tmp_path: Path, admin: psycopg.Connection, postgresql_process: PostgresqlServer
) -> None:
    """Sessions stay, and see it at their next transaction."""
    process = start(worker)
    children = pids(process)
    plain, atomic = enqueue(tmp_path, 2.0)
    for started in (2, COUNT - 1):
        wait_for_lines(tmp_path, "ran", started)
        before = said(process, "Lost the database: ")
        switch(admin, "on")
        wait_until(lambda: is_read_only(postgresql_process))
        is_refused(process, tmp_path, plain + atomic, 2.0, before)
        switch(admin, "off")
        wait_until(
            lambda: said(process, "The database is back") == said(process, "Lost the database: "),
            20,
            process.output,
        )
    everything_once(process, tmp_path, plain, atomic, children)
    assert [attempts(job_id) for job_id in atomic] == [["succeeded"]] * COUNT
    assert "Lost the database: it refuses writes: " in process.output()


def test_sessions_that_stay_read_only_are_replaced(
    worker: StartWorker, tmp_path: Path, admin: psycopg.Connection
) -> None:
    """As after a failover to a primary that refuses writes at first: sessions are cut, and the new ones are read-only
    for as long as they live."""
    process = start(worker)
    children = pids(process)
    plain, atomic = enqueue(tmp_path, 1.0)
    wait_for_lines(tmp_path, "ran", 2)
    admin.execute(_of_database("SET default_transaction_read_only = on"))
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
        [connections["default"].settings_dict["NAME"]],
    )
    connections.close_all()
    is_refused(process, tmp_path, plain + atomic, 1.0)
    admin.execute(_of_database("RESET default_transaction_read_only"))
    everything_once(process, tmp_path, plain, atomic, children)


@pytest.mark.parametrize("table,column", [("queue_app_attempt", "error_class"), ("queue_app_job", "result")])
def test_a_column_is_missing_for_a_while(
    worker: StartWorker, tmp_path: Path, admin: psycopg.Connection, table: str, column: str
) -> None:
    """The code is newer than the tables, until they are migrated."""
    process = start(worker)
    children = pids(process)
    plain, atomic = enqueue(tmp_path, 1.0)
    wait_for_lines(tmp_path, "ran", 2)
    with renamed(table, column):
        is_refused(process, tmp_path, plain + atomic, 1.0)
    everything_once(process, tmp_path, plain, atomic, children)
    lost = Attempt.objects.exclude(state="succeeded")
    assert set(lost.values_list("state", flat=True)) <= {"lost"}, "no attempt has failed of it"
    assert all("the database refused its outcome" in attempt.error for attempt in lost)
    assert Job.objects.filter(failures=0, deaths__lte=1).count() == 2 * COUNT
