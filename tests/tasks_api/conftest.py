"""Fixtures of all tests of the Tasks API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    from tests.app import dtasks  # late: this file may be read before the settings are

    dtasks.seen.clear()
    yield
    dtasks.seen.clear()


@pytest.fixture
def at_once(settings: Any) -> None:
    """Retries wait for nothing."""
    settings.QUEUE_APP = settings.QUEUE_APP | {"BACKOFF_BASE": 0.0}
