"""Delayed jobs start on time, however many of them are due in one moment."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from django.db import connection as database

from bench.runtime.waiting import wait_until
from bench.runtime.workers import WorkerProcess
from queue_app import clock
from queue_app.dispatch import connection, epochs
from queue_app.domain import ids
from queue_app.domain.states import JobState
from queue_app.queries.queues import depths_of
from tests.support.jobs import Child
from tests.support.marks import committed, on_postgresql_alone

pytestmark = [committed, on_postgresql_alone]

MANY = 200_000


def schedule(count: int, at: float) -> None:
    """Rows of jobs that are due in the same instant, and that Redis has not heard of."""
    prefix = str(ids.floor(clock.seconds()))[:13]
    with database.cursor() as cursor:
        cursor.execute(
            "INSERT INTO queue_app_job (id, task, queue, priority, state, payload, backend, run_after, max_attempts,"
            " attempt, failures, deaths, enqueued_at)"
            " SELECT (%s || '-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'tests.app.tasks.noop', 'default', 0, %s,"
            " '[[],{}]', '', %s, 1, 0, 0, 0, now() FROM generate_series(1, %s) AS n",
            [prefix, JobState.SCHEDULED, clock.from_seconds(at), count],
        )
        cursor.execute("ANALYZE queue_app_job")


@pytest.mark.slow
def test_200_000_that_are_due_in_one_second_are_claimable_within_ten(
    runmaintenance: Callable[..., WorkerProcess],
) -> None:
    process = runmaintenance({})
    process.wait_for("leading, token ")
    wait_until(lambda: epochs.all_open(connection.client()), 60, "the first rebuild")
    at = clock.seconds() + 60
    schedule(MANY, at)
    began = clock.seconds()
    loaded = wait_until(lambda: depths_of(["default"])["default"]["due_later"] == MANY, 75)
    in_time = at - clock.seconds()
    print(f"loaded within {clock.seconds() - began:.1f} s, {in_time:.1f} s before their time")
    assert loaded
    wait_until(lambda: clock.seconds() >= at, 75)
    child, seen, began = Child(), set(), time.monotonic()
    while len(seen) < MANY and time.monotonic() - began < 10:
        seen.update(delivery.id for delivery in child.claim(2_000))
    print(f"{len(seen)} claimed within {time.monotonic() - began:.1f} s")
    assert len(seen) == MANY
