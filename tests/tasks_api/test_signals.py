"""The signals of Django's Tasks API, and the log lines that it writes at them."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from bench.runtime.workers import ROOT
from queue_app.backend import JobQueueBackend
from queue_app.tasks_api.compat import ROOT as API
from queue_app.tasks_api.compat import (
    signals,
)
from tests.app import dtasks
from tests.support.draining import run_due
from tests.support.task_results import FAILED, READY, RUNNING, SUCCESSFUL, run_attempt

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """What the three signals said: (which, sender, status, attempts, the exception being handled)."""
    said: list[Any] = []
    receivers = []
    for name in ("enqueued", "started", "finished"):

        def receiver(sender: Any, task_result: Any, name: str = name, **_: Any) -> None:
            said.append((name, sender, task_result.status, task_result.attempts, sys.exc_info()[1]))

        signal = getattr(signals(), f"task_{name}")
        signal.connect(
            receiver, sender=JobQueueBackend
        )  # the sender is the class: an instance would not match
        receivers.append((signal, receiver))
    yield said
    for signal, receiver in receivers:
        signal.disconnect(receiver, sender=JobQueueBackend)


def test_the_signals_of_a_success(told: list[Any]) -> None:
    dtasks.noop.enqueue()
    run_due()
    assert told == [
        ("enqueued", JobQueueBackend, READY, 0, None),
        ("started", JobQueueBackend, RUNNING, 1, None),
        ("finished", JobQueueBackend, SUCCESSFUL, 1, None),
    ]


@pytest.mark.usefixtures("at_once")
def test_a_retried_job_starts_often_and_finishes_once(told: list[Any]) -> None:
    result = dtasks.fail.using(max_attempts=2).enqueue("boom")
    run_attempt(result)
    assert [one[0] for one in told] == ["enqueued", "started"]
    run_attempt(result)
    assert [one[0] for one in told] == ["enqueued", "started", "started", "finished"]
    _, sender, status, attempts, error = told[-1]
    assert (sender, status, attempts) == (JobQueueBackend, FAILED, 2)
    # The standard's own receivers log `sys.exc_info()`: it must be there.
    assert isinstance(error, dtasks.Trouble) and str(error) == "boom"


def test_the_result_that_is_sent_is_complete() -> None:
    sent: list[Any] = []

    def receiver(task_result: Any, **_: Any) -> None:
        there = dtasks.fail.get_result(task_result.id)  # the row says the same already
        sent.append((task_result, there))

    signals().task_finished.connect(receiver)
    try:
        for task in (dtasks.fail, dtasks.noop):
            task.enqueue()
            run_due()
    finally:
        signals().task_finished.disconnect(receiver)
    (failed, row), *rest = sent
    assert failed == row
    assert not rest  # of a task of another name, get_result in the receiver failed, and nothing else did


def test_a_receiver_that_fails_costs_no_job(told: list[Any]) -> None:
    def broken(**_: Any) -> None:
        raise RuntimeError("a broken receiver")

    for name in ("task_started", "task_finished"):
        getattr(signals(), name).connect(broken)
    try:
        result = dtasks.noop.enqueue()
        run_due()
    finally:
        for name in ("task_started", "task_finished"):
            getattr(signals(), name).disconnect(broken)
    result.refresh()
    assert result.status == SUCCESSFUL
    assert [one[0] for one in told] == ["enqueued", "started", "finished"]


def test_the_frameworks_own_log_lines_are_written(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, API):
        good, bad = dtasks.noop.enqueue(), dtasks.fail.enqueue("boom")
        run_due()
    lines = [
        (r.levelno, good.id in r.getMessage(), bool(r.exc_info)) for r in caplog.records if r.name == API
    ]
    assert (logging.DEBUG, True, False) in lines  # enqueued
    assert (logging.INFO, True, False) in lines  # started, finished
    failed = [r for r in caplog.records if r.name == API and r.levelno >= logging.ERROR]
    assert len(failed) == 1 and bad.id in failed[0].getMessage()
    assert failed[0].exc_info and isinstance(failed[0].exc_info[1], dtasks.Trouble)


def test_the_frameworks_own_log_lines_repeat_no_sensitive_argument(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        bad = dtasks.decline.enqueue("4111-22")
        run_due()
    failed = [r for r in caplog.records if r.name == API and r.levelno >= logging.ERROR]
    assert len(failed) == 1 and bad.id in failed[0].getMessage()
    assert "4111-22" not in caplog.text
    bad.refresh()
    assert "card ••• declined" in bad.errors[0].traceback


def test_a_process_that_only_enqueues_looks_up_receivers_once() -> None:
    """It imports nothing that a worker needs for its own signals."""
    code = """if True:
        import sys, django
        django.setup()
        from queue_app.tasks_api.compat import signals
        found = signals()
        assert found.task_enqueued.use_caching and found.task_started.use_caching and found.task_finished.use_caching
        assert "queue_app.tasks_api.task_signals" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
