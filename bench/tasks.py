"""The measured tasks: ordinary ones, declared through Django's own Tasks API."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from queue_app.tasks_api.compat import ROOT

task = import_module(ROOT).task


@task()
def noop(*args: Any) -> None:
    """Nothing."""


@task()
def arrive(sent_at: float, path: str) -> None:
    """Append the milliseconds between `sent_at` (epoch seconds) and now to the file `path`."""
    now = time.time()
    with open(path, "a") as file:  # one short append: lines of two children do not mix
        file.write(f"{(now - sent_at) * 1000:.3f}\n")
