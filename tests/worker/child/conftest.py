"""Fixtures of more than one file about atomic jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from queue_app import signals

if TYPE_CHECKING:
    from queue_app.domain.outcome import Outcome


@pytest.fixture(autouse=True)
def hooked() -> Iterator[list[Any]]:
    from tests.app import atomic_tasks  # late: there are no settings yet at import

    atomic_tasks.hooked.clear()
    yield atomic_tasks.hooked


@pytest.fixture
def refused() -> Iterator[list[str]]:
    """The ids of outcomes that were said not to count."""

    found: list[str] = []

    def hear(sender: object, outcomes: list[Outcome], **more: Any) -> None:
        found.extend(outcome.delivery.id for outcome in outcomes)

    signals.outcomes_refused.connect(hear)
    yield found
    signals.outcomes_refused.disconnect(hear)


@pytest.fixture
def finished() -> Iterator[list[tuple[str, str]]]:
    """(id, state of the attempt) of outcomes that were said to be committed."""

    found: list[tuple[str, str]] = []

    def hear(sender: object, outcomes: list[Outcome], **more: Any) -> None:
        found.extend((outcome.delivery.id, str(outcome.state)) for outcome in outcomes)

    signals.attempts_finished.connect(hear)
    yield found
    signals.attempts_finished.disconnect(hear)
