"""A module whose import takes seconds."""

from __future__ import annotations

import time

from queue_app import task

time.sleep(1.5)  # stands for what a large library does


@task
def patient() -> None:
    """Nothing."""
