"""The keeper hears of requests to cancel, marks the slot and wakes its child."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Any

import pytest

from bench.runtime.waiting import wait_until
from queue_app.dispatch import connection, workers
from queue_app.worker.keeper.interrupt_listener import InterruptListener
from queue_app.worker.shared_state import SharedState
from tests.support.jobs import WORKER, requested
from tests.support.marks import committed

pytestmark = committed


ID = "0199a5c0-0000-7000-8000-000000000001"


@pytest.fixture
def slot() -> Any:
    """A board with two children of two slots; the second runs a job in its second slot. Signals are counted."""
    shared = SharedState(2, 2)
    heard: list[float] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(time.monotonic()))
    yield shared, heard
    signal.signal(signal.SIGUSR1, before)


def test_the_keeper_marks_the_slot_and_wakes_its_child_once(slot: Any) -> None:
    shared, heard = slot
    child, (delivery,) = requested()
    shared.start(1, 1, delivery.id, 1, 1.7e9, 0.0)
    cancels = InterruptListener(WORKER, shared, lambda: {0: 1, 1: os.getpid()})
    cancels.interrupt(workers.to_interrupt(child.client, WORKER, 1))
    wait_until(lambda: heard, 10)
    assert list(shared.recheck_counter) == [1, 1]
    assert shared.is_cancelled(1, 1, delivery.id) and not shared.is_cancelled(0, 1, delivery.id)
    (running,) = shared.running(1)
    assert 5 < running.cancel - time.monotonic() <= 10
    cancels.interrupt([delivery.id])  # the duty repeats it
    cancels.interrupt([])
    assert len(heard) == 1 and shared.running(1) == [running]


def test_the_keeper_looks_again_for_who_is_on_its_way_into_a_slot(slot: Any) -> None:
    shared, heard = slot
    child, (delivery,) = requested()
    cancels = InterruptListener(WORKER, shared, lambda: {1: os.getpid()})
    stop = threading.Event()
    thread = threading.Thread(target=cancels.run, args=(stop,), daemon=True)
    thread.start()
    wait_until(lambda: shared.recheck_counter[1] == 1, 10)
    assert not heard
    shared.start(1, 0, delivery.id, 1, 1.7e9, 0.0)
    wait_until(lambda: heard, 10)
    stop.set()
    workers.interrupt(child.client, WORKER, [delivery.id])  # so that it need not wait to the end
    thread.join(10)
    assert not thread.is_alive()


def test_a_keeper_without_redis_hears_again_when_it_is_back(
    slot: Any, redis_process: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shared, heard = slot
    stop = threading.Event()
    thread = threading.Thread(
        target=InterruptListener(WORKER, shared, lambda: {0: os.getpid()}).run, args=(stop,), daemon=True
    )
    thread.start()
    redis_process.kill()
    redis_process.start()
    shared.start(0, 0, ID, 1, 1.7e9, 0.0)
    with caplog.at_level(logging.ERROR):
        workers.interrupt(connection.client(), WORKER, [ID])
        wait_until(lambda: heard, 20)
    assert not caplog.records
    stop.set()
    workers.interrupt(connection.client(), WORKER, [ID])
    thread.join(10)


def test_a_child_that_died_meanwhile_is_no_error(slot: Any) -> None:
    shared, _ = slot
    shared.start(0, 0, ID, 1, 1.7e9, 0.0)
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    InterruptListener(WORKER, shared, lambda: {0: pid}).interrupt([ID])
    assert shared.is_cancelled(0, 0, ID)
