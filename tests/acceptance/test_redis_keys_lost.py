"""P2: some of Redis's keys are gone and others are not, as after an eviction or an operator's slip. All jobs run."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from queue_app.models import Attempt
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import StartWorker, wait_for_end, wait_for_lines

pytestmark = [committed, on_postgresql_alone]

SETTINGS: dict[str, Any] = {"LEASE": 2.0, "SWEEP_GRACE": 1.0}
#: What is deleted of a queue: its name here → the end of the keys' names.
PARTS = {
    "ready": "ready:*",
    "body": "body",
    "due": "due",
    "held": "held:*",
    "levels": "levels",
    "lanes": "lanes:*",
}


def delete(client: redis.Redis, queue: str, ending: str) -> None:
    """Delete keys of a queue, of which there must be some."""
    found = list(client.scan_iter(f"*{queue}*:{ending}", count=1_000))
    assert found, f"{queue} has no key …:{ending}"
    client.delete(*found)


def lose(worker: StartWorker, folder: Path, client: redis.Redis, parts: dict[str, str]) -> None:
    """Each queue has a job that runs, others that wait for their turn or time, and loses one part."""
    names = [f"without-{part}" for part in parts]
    process = worker("--slots", str(len(names)), "--queues", ",".join([*names, "other"]), settings=SETTINGS)
    running, waiting = [], []
    for name in names:
        running.append(
            tasks.wait_for_file.using(queue_name=name).enqueue(str(folder), "running", "release").id
        )
    wait_for_lines(folder, "running", len(names))
    for name in names:
        waiting += [r.id for r in tasks.noop.using(queue_name=name).enqueue_many([((), {})] * 50)]
        waiting += [r.id for r in tasks.noop.using(queue_name=name, run_after=3).enqueue_many([((), {})] * 5)]
    for name, ending in zip(names, parts.values(), strict=True):
        delete(client, name, ending)
    began = time.monotonic()
    (folder / "release").touch()
    other = tasks.noop.using(queue_name="other").enqueue().id
    ends = Counter(wait_for_end([*running, *waiting, other], 60))
    print(f"all had run {time.monotonic() - began:.1f} s after they lost {', '.join(parts)}")
    assert ends == {"succeeded": 56 * len(names) + 1}
    assert Attempt.objects.filter(job_id__in=waiting).count() == len(waiting), "none ran twice"
    assert Attempt.objects.filter(job_id__in=running, state="succeeded").count() == len(running)
    assert process.stop() == 0
    assert "Traceback" not in process.output()


def test_jobs_run_whatever_part_of_their_queue_was_lost(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis
) -> None:
    lose(worker, tmp_path, clean_redis, PARTS)


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_jobs_run_where_only_one_part_was_lost(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis, part: str
) -> None:
    """Nothing that happens to another queue leads to the repair of this one."""
    lose(worker, tmp_path, clean_redis, {part: PARTS[part]})
