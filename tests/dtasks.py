"""Tasks declared through Django's own Tasks API."""

from __future__ import annotations

from typing import Any

from queue_app.tasks_api import ROOT, import_module

task = import_module(ROOT).task


@task()
def noop(*args: Any, **kwargs: Any) -> None:
    """Nothing."""
