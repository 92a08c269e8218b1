"""Tasks that wait for a file and fail, for tests of what becomes of a job that fails at a known moment."""

from __future__ import annotations

import time
from pathlib import Path

from queue_app import JobContext, task
from tests.app.tasks import mark


@task(takes_context=True, max_attempts=3, backoff=4.0)
def fail_when_released(context: JobContext, folder: str, name: str, release: str) -> None:
    """Leave a mark, wait for a file, and fail the first attempt."""
    mark(folder, name)
    path = Path(folder) / release
    while not path.exists():
        time.sleep(0.005)
    if context.attempt == 1:
        raise RuntimeError("fails once")
