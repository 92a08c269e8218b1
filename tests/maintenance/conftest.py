"""Fixtures of more than one file about rebuilding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from queue_app.maintenance.rebuild_redis import RebuildRedis


@pytest.fixture
def duty() -> RebuildRedis:
    from queue_app.maintenance.rebuild_redis import RebuildRedis  # late: there are no settings yet at import

    return RebuildRedis()
