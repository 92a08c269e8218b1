"""P2: FLUSHALL while very many jobs wait, are scheduled and run. All come back, and those that run do not run twice."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import redis

from queue_app.dispatch import keys
from queue_app.models import Attempt
from tests import tasks
from tests.acceptance.support import StartWorker, labels, lines, wait_for_end, wait_for_lines
from tests.support.marks import committed
from tests.support.waiting import wait_until

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
