"""Fixtures of more than one file about rebuilding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # this file may be read before the settings are
    from queue_app.maintenance.rebuild import Rebuild


@pytest.fixture
def duty() -> Rebuild:
    from queue_app.maintenance.rebuild import Rebuild

    return Rebuild()
