"""Fixtures of the tests of ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.schedules import At


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> At:
    from queue_app import clock
    from tests.support.schedules import moment  # late: there are no settings yet at import

    def travel(text: str):  # type: ignore[no-untyped-def]
        found = moment(text)
        monkeypatch.setattr(clock.current, "source", found.timestamp)
        return found

    return travel
