"""Processes that tests of whole workers start besides workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.runtime.workers import WorkerProcess


@pytest.fixture
def runmaintenance(worker_env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """A function that starts a real `manage.py runmaintenance`, with a lease of 2 s unless other settings are given."""
    started: list[WorkerProcess] = []

    def start(settings: dict[str, Any] | None = None, **environment: str) -> WorkerProcess:
        given = {"LEASE": 2.0} if settings is None else settings
        variables = worker_env | {"TEST_QUEUE_APP": json.dumps(given)} | environment
        log = tmp_path / f"maintenance-{len(started)}.log"
        process = WorkerProcess([], variables, log, verb="runmaintenance", forked=not environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.clean_up()
