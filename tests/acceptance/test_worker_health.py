"""P11: a worker is healthy only if it could claim recently; whoever asks gets the same answer."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import RequestFactory

from bench.runtime.servers import PostgresqlServer, RedisServer
from bench.runtime.waiting import wait_until
from queue_app import clock, health
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.models import Worker
from queue_app.models.worker import WORKER_STATUSES
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import StartWorker, processes, wait_for_end

pytestmark = [committed, on_postgresql_alone]


@pytest.fixture(autouse=True)
def short_lease(settings: Any) -> Iterator[None]:
    settings.QUEUE_APP = settings.QUEUE_APP | {"LEASE": 2.0}
    yield
    health.probe.reset()


def checked() -> str:
    """What `checkworker` says: "healthy…", or why not."""
    out = StringIO()
    try:
        call_command("checkworker", stdout=out)
    except CommandError as error:
        assert error.returncode == 1
        return str(error)
    return out.getvalue()


def wait_for_status(status: str) -> None:
    """… of the one worker; row, database and health endpoint agree."""

    def agreed() -> bool:
        row = Worker.objects.get()
        found = [one for one in WORKER_STATUSES if Worker.objects.with_status(one).exists()]
        if [row.status] != found:  # asked at two moments
            return False
        ready = json.loads(health.ready(RequestFactory().get("/")).content)["workers"]
        return row.status == status and (ready == "ok") is (status == "alive")

    wait_until(agreed, 60, lambda: f"{status}, it is {Worker.objects.get().status}")


def test_redis_is_away_and_returns(worker: StartWorker, redis_process: RedisServer) -> None:
    process = worker(settings={"LEASE": 2.0})
    wait_for_status("alive")
    assert checked().startswith("healthy: 1 worker on host ")
    redis_process.kill()
    assert "cannot be reached" in checked(), "at once"
    wait_for_status("stuck")
    redis_process.start()
    wait_for_status("alive")
    assert checked().startswith("healthy: ")
    breaker.reset()
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]
    assert process.stop() == 0
    assert checked().startswith("There is no worker on host")


def test_the_database_is_away_and_returns(worker: StartWorker, postgresql_process: PostgresqlServer) -> None:
    worker(settings={"LEASE": 2.0})
    wait_for_status("alive")
    postgresql_process.kill()
    connections.close_all()
    assert "cannot be reached" in checked()
    postgresql_process.start()
    connections.close_all()
    wait_for_status("alive")
    assert checked().startswith("healthy: ")
    assert wait_for_end([tasks.noop.enqueue().id]) == ["succeeded"]


def test_a_worker_that_has_been_busy_for_long_is_healthy(worker: StartWorker, tmp_path: Path) -> None:
    """All its children run something: it has no reason to claim."""
    worker(settings={"LEASE": 1.0})
    job = tasks.wait_for_file.enqueue(str(tmp_path), "started", "release")
    wait_until(lambda: (tmp_path / "started").exists(), 60, "its start")
    began = clock.now()

    def able() -> Any:
        last = Worker.objects.get().last_claim_at
        return last is not None and (last - began).total_seconds() > 1

    wait_until(able, 60, "its row says that it could claim, although its only child is busy")
    assert wait_for_status("alive") is None
    (tmp_path / "release").touch()
    assert wait_for_end([job.id]) == ["succeeded"]


def test_children_that_cannot_go_on_make_it_stuck(worker: StartWorker) -> None:
    """Its keeper beats, in both stores; its only child is frozen."""
    process = worker(settings={"LEASE": 2.0})
    wait_for_status("alive")
    child = processes(process, "child")[0].pid
    os.kill(child, signal.SIGSTOP)
    wait_for_status("stuck")
    assert "could not claim lately" in checked()
    os.kill(child, signal.SIGCONT)
    wait_for_status("alive")


def test_a_keeper_that_is_frozen_makes_it_silent(worker: StartWorker) -> None:
    process = worker(settings={"LEASE": 2.0})
    wait_for_status("alive")
    keeper = processes(process, "keeper")[0].pid
    os.kill(keeper, signal.SIGSTOP)
    wait_for_status("silent")
    assert "no sign of life" in checked()
    os.kill(keeper, signal.SIGCONT)
    wait_for_status("alive")
