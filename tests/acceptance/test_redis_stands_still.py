"""P2, P4: Redis does not answer for longer than the lease. When it does again, nobody who lives is taken for dead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.runtime.servers import RedisServer
from bench.runtime.waiting import wait_until
from queue_app.dispatch import connection, workers
from queue_app.lifecycle.redis_breaker import breaker
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import StartWorker, attempts, wait_for_end, wait_for_lines

pytestmark = [committed, on_postgresql_alone]

SHORT: dict[str, Any] = {"LEASE": 2.0}


def test_running_jobs_are_not_taken_from_living_workers(
    worker: StartWorker, tmp_path: Path, redis_process: RedisServer
) -> None:
    both = [worker(settings=SHORT), worker(settings=SHORT)]
    ids = [tasks.wait_for_file.enqueue(str(tmp_path), f"started-{n}", "release").id for n in range(2)]
    for n in range(2):
        wait_for_lines(tmp_path, f"started-{n}")
    client = connection.client()
    wait_until(lambda: client.get("{jq}:leader"), 30, "a leader")
    redis_process.pause()
    for process in both:
        process.wait_for("Lost the redis: ")  # a command that waited 5 s
    redis_process.resume()
    for process in both:
        process.wait_for("The redis is back after ")
    # Several leases later, when whoever would be buried has been.
    until = workers.now(client) + 4 * SHORT["LEASE"]
    wait_until(lambda: min(w.beat for w in workers.listed(client)) > until, 60, "heartbeats of both")
    assert len(workers.listed(client)) == 2
    (tmp_path / "release").touch()
    assert wait_for_end(ids) == ["succeeded"] * 2
    assert [attempts(job_id) for job_id in ids] == [["succeeded"]] * 2
    breaker.reset()
    assert [process.stop() for process in both] == [0, 0]


def test_a_claim_whose_answer_was_lost_takes_no_job_away(
    worker: StartWorker, tmp_path: Path, redis_process: RedisServer
) -> None:
    """Redis carries it out when it goes on, for a child that has given up on it, and lives."""
    process = worker(settings={"LEASE": 60.0})
    running = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_for_lines(tmp_path, "started")
    waiting = [result.id for result in tasks.noop.enqueue_many([((), {})] * 20)]
    redis_process.pause()
    (tmp_path / "release").touch()
    process.wait_for("Lost the redis: ")
    redis_process.resume()
    assert wait_for_end([running, *waiting]) == ["succeeded"] * 21
    assert [attempts(job_id) for job_id in (running, *waiting)] == [["succeeded"]] * 21
    breaker.reset()
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert process.stop() == 0
