"""Fixtures of the tests of ticks."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # this file may be read before the settings are
    from tests.support.schedules import At


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> At:
    """Set the clock to a time of 2026-11-22, or of another day, in UTC."""
    from queue_app import clock
    from tests.support.schedules import moment

    def travel(text: str) -> datetime:
        found = moment(text)
        monkeypatch.setattr(clock.current, "source", found.timestamp)
        return found

    return travel
