"""Tasks whose runs are counted, in this process or in the database."""

from __future__ import annotations

from queue_app import JobContext, task
from tests.app.models import Effect

#: (job id, attempt number) of every run in this process.
runs: list[tuple[str, int]] = []


@task(takes_context=True, max_attempts=3, backoff=0.01)
def effect(context: JobContext, text: str = "", *, failures: int = 0) -> None:
    """Be noted; fail the first `failures` attempts."""
    runs.append((context.job_id, context.attempt))
    if context.attempt <= failures:
        raise ValueError("on purpose")


@task(atomic=True, takes_context=True, max_attempts=3, backoff=0.01)
def booked(context: JobContext, *, failures: int = 0) -> None:
    """Write a row in the transaction of its own success; fail the first `failures` attempts."""
    Effect.objects.create(job=context.job_id, label=str(context.attempt))
    if context.attempt <= failures:
        raise ValueError("on purpose")
