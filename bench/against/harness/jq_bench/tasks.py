"""The measured tasks, declared through Django's Tasks API."""

from __future__ import annotations

import time
from typing import Any

try:
    from django.tasks import task
except ImportError:
    from django_tasks import task


@task()
def noop(*args: Any) -> None:
    """Nothing."""


@task()
def arrive(sent_at: float, path: str) -> None:
    """Append the milliseconds between `sent_at` (epoch seconds) and now to the file `path`."""
    now = time.time()
    with open(path, "a") as file:
        file.write(f"{(now - sent_at) * 1000:.3f}\n")
