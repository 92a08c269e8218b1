"""Real workers, real signals, both stores: what users do, and what happens to their machines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def forget_outages() -> Iterator[None]:
    """What this process remembers of a Redis that was away must not reach the next test."""
    # Imported late: this file may be read before the settings are.
    from queue_app.dispatch import connection
    from queue_app.lifecycle import dispatching, queue_defaults

    yield
    dispatching._retry_at = 0.0
    dispatching._down_since = None
    queue_defaults.forget()
    connection.forget()
