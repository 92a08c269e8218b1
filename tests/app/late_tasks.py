"""Tasks of a module that nobody imports at the start: its name is not `tasks`."""

from __future__ import annotations

from queue_app import task


@task(backoff=3_600)
def patient() -> None:
    """Wait an hour after each failure."""
