"""Fixtures of more than one file about rebuilding."""

from __future__ import annotations

import pytest

from queue_app.maintenance.rebuild_redis import Rebuild


@pytest.fixture
def duty() -> Rebuild:
    return Rebuild()
