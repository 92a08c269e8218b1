"""P2: FLUSHALL while very many jobs wait, are scheduled and run. All come back, and those that run do not run twice."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import redis

from bench.runtime.waiting import wait_until
from queue_app.dispatch import connection, finding, keys, listing
from queue_app.lifecycle.recovery import rebuild
from queue_app.models import Attempt, Job
from tests.app import tasks
from tests.support.marks import committed
from tests.support.whole_workers import (
    StartWorker,
    kill,
    labels,
    lines,
    the_one,
    wait_for_end,
    wait_for_lines,
)

pytestmark = committed

#: Jobs that wait, and that are scheduled for soon. By hand: FLUSHALL_JOBS=100000.
WAITING = int(os.environ.get("FLUSHALL_JOBS", "2000")) * 4 // 5
SCHEDULED = WAITING // 4


def test_a_hundred_thousand_jobs_come_back(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis
) -> None:
    process = worker("--slots", "4")
    running = [tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id for _ in range(3)]
    wait_for_lines(tmp_path, "started", 3)
    for _ in range(0, WAITING, 400):  # nobody serves this queue: it only has to come back
        tasks.noop.using(queue_name="mail").enqueue_many([((), {})] * 400)
    for _ in range(0, SCHEDULED, 400):
        tasks.noop.using(queue_name="mail", run_after=3_600).enqueue_many([((), {})] * 400)
    soon = tasks.noop.using(queue_name="mail", run_after=55).enqueue_many([((), {})] * SCHEDULED)
    busy = [
        result.id
        for result in tasks.label.enqueue_many([((str(tmp_path), "ran", n, 0.005), {}) for n in range(300)])
    ]
    wait_for_lines(tmp_path, "ran", 20)

    clean_redis.flushall()
    began = time.monotonic()
    busy += [tasks.label.enqueue(str(tmp_path), "ran", 300).id]  # new work flows meanwhile
    body, due = keys.body("mail"), keys.due("mail")
    wait_until(lambda: clean_redis.hlen(body), 60, "the first job that is back")
    first = time.monotonic() - began
    wait_until(lambda: clean_redis.hlen(body) == WAITING + len(soon), 60, lambda: f"{clean_redis.hlen(body)}")
    print(
        f"first job back after {first:.1f} s, all {WAITING + len(soon):,} after {time.monotonic() - began:.1f} s"
    )
    assert clean_redis.zcard(due) == len(soon)
    # A keeper looks every second, the leader pushes two seconds later: about 3 s. The rest is for a busy machine.
    assert first < 10
    (tmp_path / "release").touch()
    assert wait_for_end(running) == ["succeeded"] * 3
    assert Counter(wait_for_end(busy)) == {"succeeded": 301}
    assert len(lines(tmp_path, "started")) == 3, "what ran was announced, and not run again"
    assert Attempt.objects.filter(job_id__in=running).count() == 3
    again = Counter(labels(tmp_path, "ran")).total() - 301
    assert again == 0, "what was claimed and had not begun was left to who claimed it then"
    assert process.stop() == 0


def test_a_keeper_that_replaces_one_that_died_meanwhile_announces_what_runs(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis
) -> None:
    """It was not there when Redis lost its data, and neither when another leader made that good."""
    process = worker("--processes", "1", settings={"LEASE": 2.0, "MAINTENANCE": False})
    job_id = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_for_lines(tmp_path, "started", 1)
    wait_until(lambda: Job.objects.get(pk=job_id).state == "running", 30, "its row says that it runs")
    keeper = the_one(process, "keeper")
    process.signal(signal.SIGSTOP)  # so that it is replaced later
    kill(keeper)
    clean_redis.flushall()
    client = connection.client()
    assert rebuild.at_once(client) == 0
    assert not listing.holders(client, ["default"])
    process.signal(signal.SIGCONT)
    process.wait_for("it is replaced")
    wait_until(lambda: finding.holders_of(client, {"default": [job_id]}), 10, "what runs is announced")
    (tmp_path / "release").touch()
    assert wait_for_end([job_id]) == ["succeeded"]
    assert len(lines(tmp_path, "started")) == 1 == Attempt.objects.count()
    assert process.stop() == 0
