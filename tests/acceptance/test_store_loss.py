"""P2 and P3: a store is emptied, killed or frozen while workers run. Nothing is lost; recovery comes by itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import redis
from django.db import connections

from bench.runtime.servers import PostgresqlServer, RedisServer
from bench.runtime.waiting import wait_until
from queue_app import clock
from queue_app.dispatch import connection, epochs, workers
from queue_app.lifecycle.recovery.orphans import recover_orphaned as redeliver_orphans
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.models import Attempt, Job
from tests.app import tasks
from tests.support.marks import committed
from tests.support.whole_workers import (
    StartWorker,
    attempts,
    labels,
    lines,
    pids,
    the_one,
    wait_for_end,
    wait_for_lines,
)

pytestmark = committed


def slow_jobs(folder: Path, count: int, first: int = 0) -> list[str]:
    calls = [((str(folder), "ran", n, 0.005), {}) for n in range(first, first + count)]
    return [result.id for result in tasks.label.enqueue_many(calls)]


def everything_ran(folder: Path, ids: list[str], again: int) -> None:
    """Every job ran and is recorded as a success once; no more than `again` ran a second time."""
    assert Counter(wait_for_end(ids, 60)) == {"succeeded": len(ids)}
    ran = Counter(labels(folder, "ran"))
    assert set(ran) == {str(n) for n in range(len(ids))}
    assert ran.total() - len(ids) <= again
    assert Attempt.objects.filter(state="succeeded", job_id__in=ids).count() == len(ids)


def test_a_waiting_backlog_comes_back_after_flushall(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis
) -> None:
    process = worker("--processes", "2", settings={"CLAIM_MAX": 50, "LONG_JOB": 60.0})
    ids = slow_jobs(tmp_path, 400)
    delayed = tasks.noop.using(run_after=1).enqueue().id
    wait_for_lines(tmp_path, "ran", 50)
    clean_redis.flushall()
    # What two children had in their hands they leave to whoever claims it then; what they ran was announced.
    everything_ran(tmp_path, ids, again=0)
    assert wait_for_end([delayed]) == ["succeeded"]
    assert process.stop() == 0


def test_a_long_job_outlives_flushall(worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis) -> None:
    """Nobody may take it for lost: its child lives, and ends it."""
    worker(settings={"LEASE": 1.0})
    job_id = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_until(lambda: Job.objects.get(pk=job_id).state == "running", 10, "its row says running")
    clean_redis.flushall()
    client = connection.client()
    wait_until(lambda: epochs.all_open(client), 15, "the rebuild")
    Job.objects.filter(pk=job_id).update(last_attempted_at=clock.from_seconds(clock.seconds() - 3_600))
    assert redeliver_orphans(client) == 0
    (tmp_path / "release").touch()
    assert wait_for_end([job_id]) == ["succeeded"]
    assert attempts(job_id) == ["succeeded"]
    assert len(lines(tmp_path, "started")) == 1


def test_what_runs_is_announced_before_anything_is_pushed(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis
) -> None:
    """Its row says that it waits, as those of all short jobs do: only its keeper knows better."""
    worker(settings={"RUNNING_AFTER": 3_600.0})
    job_id = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_for_lines(tmp_path, "started")
    clean_redis.flushall()
    wait_until(lambda: epochs.all_open(connection.client()), 15, "the rebuild")
    assert Job.objects.get(pk=job_id).state == "queued"
    other = tasks.noop.enqueue().id
    (tmp_path / "release").touch()
    assert wait_for_end([job_id, other]) == ["succeeded"] * 2
    assert attempts(job_id) == ["succeeded"]
    assert len(lines(tmp_path, "started")) == 1


def test_redis_dies_and_returns_empty(
    worker: StartWorker, tmp_path: Path, redis_process: RedisServer
) -> None:
    process = worker("--processes", "2", settings={"CLAIM_MAX": 50, "LONG_JOB": 60.0})
    children = pids(process)
    ids = slow_jobs(tmp_path, 200)
    wait_for_lines(tmp_path, "ran", 30)
    redis_process.kill()
    ids += slow_jobs(tmp_path, 100, first=200)
    process.wait_for("Lost the redis: Redis at unix://")
    redis_process.start()
    process.wait_for("The redis is back after ")
    everything_ran(tmp_path, ids, again=0)
    breaker.reset()
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert pids(process) == children, "no process may die of it"
    assert "Traceback" not in process.output()
    assert process.stop() == 0


def test_redis_hangs_for_a_while(worker: StartWorker, tmp_path: Path, redis_process: RedisServer) -> None:
    process = worker(settings={"LEASE": 1.0})
    job_id = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_for_lines(tmp_path, "started")
    redis_process.pause()
    (tmp_path / "release").touch()
    # It is recorded although Redis does not answer: the record needs the database alone.
    assert wait_for_end([job_id]) == ["succeeded"]
    redis_process.resume()
    breaker.reset()
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert attempts(job_id) == ["succeeded"]
    assert process.stop() == 0


def durable() -> None:
    """A commit is one, on every connection from now on: tests otherwise do without, and a killed server forgets."""
    default = connections["default"]
    with default.cursor() as cursor:
        cursor.execute(f'ALTER DATABASE "{default.settings_dict["NAME"]}" SET synchronous_commit = on')
    default.close()


def test_postgresql_dies_and_returns(
    worker: StartWorker, tmp_path: Path, postgresql_process: PostgresqlServer
) -> None:
    """Claims stop, outcomes are kept and recorded later, leases stay alive."""
    durable()
    process = worker("--processes", "2", "--slots", "2", settings={"LEASE": 2.0, "CLAIM_MAX": 10})
    children = pids(process)
    ids = slow_jobs(tmp_path, 300)
    wait_for_lines(tmp_path, "ran", 40)
    postgresql_process.kill()
    connections.close_all()
    process.wait_for("Lost the database: ")
    client = connection.client()
    (own,) = workers.listed(client)
    wait_until(lambda: workers.listed(client)[0].beat > own.beat, 10, "a heartbeat in Redis meanwhile")
    postgresql_process.start()
    process.wait_for("The database is back after ")
    everything_ran(tmp_path, ids, again=0)
    assert Attempt.objects.count() == 300, "what ran during the outage was kept, not run again"
    assert pids(process) == children
    assert process.stop() == 0


def test_a_stop_while_redis_is_away(worker: StartWorker, tmp_path: Path, redis_process: RedisServer) -> None:
    process = worker(settings={"LEASE": 1.0})
    the_one(process)
    redis_process.kill()
    process.wait_for("Lost the redis")
    assert process.stop(timeout=10) in (0, 1)
    assert "Traceback" not in process.output()
    assert process.output().count("cannot be taken back yet") <= 3, "once is enough, more is noise"
