"""P2, P3 and P6: Redis dies and comes back with older data. What has happened since then stays as the record says."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from bench.runtime.servers import RedisServer
from bench.runtime.waiting import wait_until
from queue_app.lifecycle import operate
from queue_app.models import Attempt, Job
from tests.app import tasks
from tests.app.waiting_tasks import fail_when_released
from tests.support.marks import committed, on_postgresql_alone
from tests.support.past import WAYS, Past, past_of
from tests.support.whole_workers import (
    StartWorker,
    attempts,
    labels,
    lines,
    pids,
    wait_for_end,
    wait_for_lines,
)

pytestmark = [committed, on_postgresql_alone]

SETTINGS: dict[str, Any] = {"LEASE": 2.0, "SWEEP_GRACE": 1.0}
#: Seconds until new work must flow. About 3 s where the machine has nothing else to do.
FLOW = 10.0


@pytest.fixture(params=list(WAYS))
def past(request: pytest.FixtureRequest, redis_process: RedisServer) -> Iterator[Past]:
    with past_of(redis_process, request.param) as found:
        yield found


def label_many(folder: Path, name: str, count: int, seconds: float = 0.0, **options: Any) -> list[str]:
    """Jobs that leave the marks 0, 1, …, in this file."""
    calls = [((str(folder), name, n, seconds), {}) for n in range(count)]
    return [result.id for result in tasks.label.using(**options).enqueue_many(calls)]


def once_each(folder: Path, name: str, ids: list[str]) -> None:
    """All of them end well; none is run or recorded twice, as no child has died."""
    assert Counter(wait_for_end(ids)) == {"succeeded": len(ids)}
    again = [label for label, times in Counter(labels(folder, name)).items() if times > 1]
    assert not again, f"of {name!r} these ran more than once: {again}"
    assert Counter(Attempt.objects.filter(job_id__in=ids).values_list("state", flat=True)) == {
        "succeeded": len(ids)
    }


def wait_until_filled(client: redis.Redis) -> None:
    """Wait until Redis has been told everything for the first time: until then each cancellation is a request."""
    wait_until(lambda: list(client.scan_iter("*:epoch", count=1_000)), 30, "the first rebuild, of nothing")


def wait_until_held(client: redis.Redis, expected: set[str]) -> None:
    """Wait until Redis says that these jobs are held, and no others."""

    def held() -> set[str]:
        keys = list(client.scan_iter("*:held:*", count=1_000))
        return {job_id.decode() for key in keys for job_id in client.hkeys(key)}

    wait_until(lambda: held() == expected, 30, lambda: f"{expected} alone are held, not {held()}")


def test_cancelled_jobs_never_start(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis, past: Past
) -> None:
    """Those that waited, and those whose time had not come; also those that are cancelled right after."""
    folder = str(tmp_path)
    worker("--processes", "2", settings=SETTINGS)
    wait_until_filled(clean_redis)
    blocker = [tasks.wait_for_file.enqueue(folder, "blocked", "release").id for _ in range(2)]
    wait_for_lines(tmp_path, "blocked", 2)
    before = label_many(tmp_path, "cancelled before", 5)
    before += label_many(tmp_path, "cancelled before", 5, run_after=4.0)
    after = label_many(tmp_path, "cancelled after", 5)
    waiting = label_many(tmp_path, "waiting", 20)
    delayed = label_many(tmp_path, "delayed", 5, run_after=4.0)
    past.remember()
    assert set(operate.cancel(before).done) == set(before)
    past.go_back()
    answer = operate.cancel(after)
    assert set(answer.done + answer.requested) == set(after), answer
    new = label_many(tmp_path, "new", 5)
    (tmp_path / "release").touch()
    once_each(tmp_path, "new", new)
    once_each(tmp_path, "waiting", waiting)
    once_each(tmp_path, "delayed", delayed)
    assert wait_for_end(blocker) == ["succeeded"] * 2
    assert len(lines(tmp_path, "blocked")) == 2
    wait_until_held(clean_redis, set())
    assert wait_for_end(before + after) == ["cancelled"] * 15
    assert not labels(tmp_path, "cancelled before")
    assert not labels(tmp_path, "cancelled after")


def test_what_ended_and_what_runs_is_not_run_again(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis, past: Past
) -> None:
    """The old data say of all of it that it waits, or is held by a child that does something else now."""
    folder = str(tmp_path)
    process = worker("--processes", "2", "--slots", "4", settings=SETTINGS)
    children = pids(process)
    wait_until_filled(clean_redis)
    ended = [tasks.wait_for_file.enqueue(folder, "ended", "release").id for _ in range(2)]
    retried = [fail_when_released.enqueue(folder, "retried", "release").id for _ in range(4)]
    dead = [fail_when_released.using(max_attempts=1).enqueue(folder, "dead", "release").id for _ in range(2)]
    for name, ids in (("ended", ended), ("retried", retried), ("dead", dead)):
        wait_for_lines(tmp_path, name, len(ids))
    waited = label_many(tmp_path, "waited", 50)
    long = tasks.wait_for_file.enqueue(folder, "long", "release long").id
    past.remember()

    (tmp_path / "release").touch()
    wait_for_lines(tmp_path, "long")  # it waits, as far as the old data know
    assert wait_for_end([*ended, *dead]) == ["succeeded"] * 2 + ["failed"] * 2
    assert wait_for_end(waited) == ["succeeded"] * 50
    waiting = Job.objects.filter(pk__in=retried, state="retrying")
    wait_until(lambda: waiting.count() == 4, 10, "the retries are recorded")
    backlog = label_many(tmp_path, "backlog", 200, 0.02)
    wait_for_lines(tmp_path, "backlog", 10)
    past.go_back()

    began = time.time()
    new = label_many(tmp_path, "new", 1)
    wait_for_lines(tmp_path, "new", 1, FLOW)
    print(f"new work flows after {float(lines(tmp_path, 'new')[0][1]) - began:.1f} s")
    once_each(tmp_path, "new", new)
    once_each(tmp_path, "backlog", backlog)
    assert wait_for_end(retried) == ["succeeded"] * 4
    assert [attempts(job_id) for job_id in retried] == [["failed", "succeeded"]] * 4
    wait_until_held(clean_redis, {long})
    (tmp_path / "release long").touch()
    assert wait_for_end([long]) == ["succeeded"]
    wait_until_held(clean_redis, set())
    once_each(tmp_path, "waited", waited)
    for ids, name in ((ended, "ended"), (dead, "dead"), ([long], "long")):
        assert len(lines(tmp_path, name)) == len(ids), f"{name} ran again"
        assert Attempt.objects.filter(job_id__in=ids).count() == len(ids)
    assert pids(process) == children
    assert process.stop() == 0
    assert "Traceback" not in process.output()


@pytest.mark.slow
@pytest.mark.parametrize("past", ["snapshot"], indirect=True)
def test_new_work_flows_while_a_large_backlog_is_put_back(
    worker: StartWorker, tmp_path: Path, clean_redis: redis.Redis, past: Past
) -> None:
    """Nobody serves the backlog's queue: it only has to come back."""
    worker("--processes", "2", settings=SETTINGS)
    wait_until_filled(clean_redis)
    mail = tasks.noop.using(queue_name="mail")
    for _ in range(60):
        mail.enqueue_many([((), {})] * 5_000)

    def back() -> int:
        keys = list(clean_redis.scan_iter("*mail*:body", count=1_000))
        return sum(clean_redis.hlen(key) for key in keys)

    assert back() == 300_000
    past.remember()
    past.go_back()
    began = time.monotonic()
    new = label_many(tmp_path, "new", 1)
    wait_for_lines(tmp_path, "new", 1, FLOW)
    flows, there = time.monotonic() - began, back()
    wait_until(lambda: back() == 300_000, 60, "the whole backlog")
    print(
        f"new work flows after {flows:.1f} s, with {there:,} of 300,000 back; all after "
        f"{time.monotonic() - began:.1f} s"
    )
    once_each(tmp_path, "new", new)
    assert flows < 5 and there < 300_000
