"""Jobs run in the test's own process, as `runworker --drain` does it, so that signals and tasks can be watched."""

from __future__ import annotations

from queue_app.domain import ids
from queue_app.worker.config import QueueChoice, WorkerConfig
from queue_app.worker.drain import drain


def run_due(queues: str = "default,mail") -> str:
    """Run what is due in these queues and return the id of the worker that did it."""
    config = WorkerConfig(worker_id=ids.new_text(), queues=QueueChoice.parse(queues))
    drain(config)
    return config.worker_id
