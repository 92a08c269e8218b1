"""Ten thousand queues, each with a job that waits: one leader does all duties on time, and has little to do."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest
from django.db import connection as database

from bench.runtime.waiting import wait_until
from bench.runtime.workers import WorkerProcess
from queue_app import clock
from queue_app.dispatch import connection, epochs, workers
from queue_app.domain import ids
from queue_app.domain.states import JobState
from queue_app.maintenance import history
from queue_app.maintenance.duty_list import DUTIES
from queue_app.models import Queue
from queue_app.queries import duties
from tests.support.marks import committed, on_postgresql_alone

pytestmark = [committed, on_postgresql_alone]

MANY = 10_000
#: Seconds for which the leader is watched: every duty is due within it, and one of them once a minute.
WINDOW = 65.0


def fill() -> None:
    """A waiting job in each queue; a row for every fourth, with a retention that no other has."""
    prefix = str(ids.floor(clock.seconds() - 3_600))[:13]
    with database.cursor() as cursor:
        cursor.execute(
            "INSERT INTO queue_app_job (id, task, queue, priority, state, payload, backend, max_attempts, attempt,"
            " failures, deaths, enqueued_at)"
            " SELECT (%s || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'tests.app.tasks.noop', 'tenant-' || n,"
            " 0, %s, '[[],{}]', '', 1, 0, 0, 0, now() FROM generate_series(1, %s) AS n",
            [prefix, JobState.QUEUED, MANY],
        )
        Queue.objects.bulk_create(
            Queue(name=f"tenant-{n}", keep_succeeded=86_400.0 + n) for n in range(1, MANY + 1, 4)
        )
        cursor.execute("ANALYZE")


def runs() -> dict[str, int]:
    """How often each duty has been done."""
    return {name: known.runs for name, known in history.read(connection.client()).items()}


@pytest.mark.slow
def test_one_leader_does_all_duties_on_time(runmaintenance: Callable[..., WorkerProcess]) -> None:
    fill()
    process = runmaintenance({})
    client = connection.client()
    wait_until(lambda: epochs.all_open(client), 120, "the rebuild")
    wait_until(lambda: runs().keys() >= {duty.name for duty in DUTIES}, 60, "a first run of each duty")
    leadership, before, measured = workers.leader(client), runs(), psutil.Process(process.pid)
    began, used = workers.now(client), measured.cpu_times()
    wait_until(lambda: workers.now(client) - began >= WINDOW, 2 * WINDOW)
    seconds, times = workers.now(client) - began, measured.cpu_times()
    share = (times.user + times.system - used.user - used.system) / seconds
    done = {name: number - before[name] for name, number in runs().items()}
    print(f"{MANY:,} queues: {100 * share:.1f} % of a core; runs within {seconds:.0f} s: {done}")
    assert workers.leader(client) == leadership
    assert {line.duty.name: line.status for line in duties.now().lines} == {d.name: "ok" for d in DUTIES}
    assert all(done.values())
    assert share <= 0.10
