"""A worker's lease and row: each goes on without the other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.db import OperationalError

from bench.runtime.waiting import wait_until
from queue_app.dispatch import connection, workers
from queue_app.domain import ids
from queue_app.models import Worker
from queue_app.worker.config import QueueChoice, WorkerConfig
from queue_app.worker.keeper.heartbeat import Heartbeat
from tests.support.marks import committed

pytestmark = committed


@pytest.fixture
def heartbeat(settings: Any) -> Iterator[Heartbeat]:
    settings.QUEUE_APP = settings.QUEUE_APP | {"LEASE": 1.0}
    made = Heartbeat(WorkerConfig(worker_id=ids.new_text(), queues=QueueChoice(("default",), None)))
    made.start()
    yield made
    made.leave()
    assert workers.listed(connection.client()) == []


def beat() -> float:
    """When the only worker was last heard of."""
    listed = workers.listed(connection.client())
    return listed[0].beat if listed else 0.0


def test_a_database_that_hangs_does_not_cost_the_lease(
    heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setattr(heartbeat, "_write", lambda last_claim: answered.wait(60))
    writing = threading.Thread(target=heartbeat.write, args=(0.0, False))
    writing.start()
    began = beat()
    wait_until(lambda: beat() > began + 1.0, 20, "heartbeats for longer than the lease")
    assert writing.is_alive()
    answered.set()
    writing.join()


def test_who_is_forgotten_says_so_at_once(heartbeat: Heartbeat, clean_redis: redis.Redis) -> None:
    clean_redis.flushall()
    heartbeat.beat_now()
    wait_until(lambda: beat() > 0, 5)


def test_its_row_comes_with_the_first_write_and_says_when_it_ended(heartbeat: Heartbeat) -> None:
    assert not Worker.objects.exists()
    heartbeat.write(0.0, False)
    assert Worker.objects.get().last_claim_at is None
    heartbeat.write(0.0, True)
    row = Worker.objects.get()
    assert row.last_claim_at is not None, "busy, and Redis has answered: it could claim"
    assert row.stopped_at is None
    heartbeat.leave()
    assert Worker.objects.get().stopped_at is not None


def test_an_outage_of_the_row_is_said_once(
    heartbeat: Heartbeat, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(last_claim: float) -> None:
        raise OperationalError("connection refused")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "queue_app"):
        patch.setattr(heartbeat, "_write", away)
        for _ in range(3):
            heartbeat.write(0.0, False)
    assert [record.message for record in caplog.records] == [
        "The worker's row could not be written: connection refused"
    ]
    heartbeat.write(0.0, False)
    assert Worker.objects.count() == 1
