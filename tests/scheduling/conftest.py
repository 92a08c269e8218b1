"""Fixtures of the tests of ticks."""

from __future__ import annotations

from datetime import datetime

import pytest

from queue_app import clock
from tests.support.schedules import At, moment


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> At:
    def travel(text: str) -> datetime:
        found = moment(text)
        monkeypatch.setattr(clock.current, "source", found.timestamp)
        return found

    return travel
