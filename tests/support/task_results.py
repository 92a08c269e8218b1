"""Statuses of the Tasks API, and running a job until its result has changed."""

from __future__ import annotations

from typing import Any

from bench.runtime.waiting import wait_until
from queue_app.tasks_api.compat import (
    TaskResultStatus,
)
from tests.support.draining import run_due

READY, RUNNING, FAILED, SUCCESSFUL = (
    TaskResultStatus.READY,
    TaskResultStatus.RUNNING,
    TaskResultStatus.FAILED,
    TaskResultStatus.SUCCESSFUL,
)


def run_attempt(result: Any) -> str:
    """Run what is due until this job has had another attempt; the worker that made it, and the result read again."""
    before = result.attempts
    workers = []

    def attempted() -> bool:
        workers.append(run_due())
        result.refresh()
        return bool(result.attempts > before)

    wait_until(attempted)
    return workers[-1]
