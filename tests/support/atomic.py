"""Atomic jobs: what they have left, and running them to their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from queue_app.models import Job
from tests.app.models import Effect
from tests.support.draining import run_due
from tests.support.jobs import Child


def effects(job_id: str) -> list[str]:
    return list(Effect.objects.filter(job=job_id).order_by("pk").values_list("label", flat=True))


def held() -> int:
    return sum(int(Child().client.hlen(key)) for key in Child().client.scan_iter("*:held:*"))


def run_until_done(job_id: str) -> None:
    """Drain until the job is final (a drain does not wait for retries)."""
    for _ in range(1_000):
        run_due()
        if Job.objects.get(pk=job_id).is_finished:
            return
    raise AssertionError(Job.objects.filter(pk=job_id).values())


def note(said: list[str], word: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        said.append(word)
        return function(*args, **kwargs)

    return noted
