"""What the faces' tests do behind the faces: be a child that claims and records, and ask what one would get."""

from __future__ import annotations

from typing import Any

from django.test import TestCase

from queue_app.dispatch import connection, queues, workers
from queue_app.domain import ids
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome
from queue_app.lifecycle import settle
from queue_app.models import DeadLetter
from tests.app import tasks
from tests.support.factories import AttemptFactory, DeadLetterFactory, JobFactory

WORKER = ids.new_text()


def jobs(count: int, task: Any = tasks.noop) -> list[str]:
    """Enqueue and push `count` calls, even in a test whose transaction never commits; their ids."""
    with TestCase.captureOnCommitCallbacks(execute=True):
        return [result.id for result in task.enqueue_many([((n,), {}) for n in range(count)])]


def claim(count: int = 1, queue: str = "default") -> list[Delivery]:
    """Claim jobs as a child does that then runs them."""
    return queues.claim(connection.client(), queue, workers.holder(WORKER, 1), count)[0]


def drain(queue: str = "default") -> list[str]:
    """What a child would get now, in that order; it holds them afterwards."""
    return [delivery.id for delivery in claim(100, queue)]


def record(*outcomes: Outcome) -> None:
    """Record outcomes, as the worker does before it acknowledges them."""
    assert settle.record(list(outcomes), WORKER) == {outcome.delivery.id for outcome in outcomes}


def poisoned() -> DeadLetter:
    """A job that killed its process three times."""
    job = JobFactory(state="failed", history=False, attempt=3, deaths=3, max_attempts=9)
    for number in (1, 2, 3):
        AttemptFactory(
            job=job, number=number, state="lost", error=f"killed by SIGKILL, peak memory {number} MB"
        )
    return DeadLetterFactory(job=job, reason="poison", attempts=3)
