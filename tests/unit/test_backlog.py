"""What a child has claimed but not started, and how many it claims next."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from queue_app.worker.child.prefetch import BATCH_SECONDS, Backlog


def grown(backlog: Backlog, rounds: int) -> list[int]:
    """The sizes of as many claims, all of short jobs."""
    sizes = []
    for _ in range(rounds):
        sizes.append(backlog.size)
        backlog.ran(backlog.size, 0.001)
    return sizes


def test_claims_double_while_jobs_are_short() -> None:
    assert grown(Backlog(), 11) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 500, 500]


@override_settings(QUEUE_APP={"CLAIM_MAX": 3})
def test_claims_never_exceed_the_setting() -> None:
    assert grown(Backlog(), 4) == [1, 2, 3, 3]


def test_a_claim_that_was_not_filled_does_not_grow_the_next() -> None:
    backlog = Backlog()
    grown(backlog, 4)
    size = backlog.size
    backlog.ran(size - 1, 0.001)
    assert backlog.size == size


def test_claims_shrink_to_what_fits() -> None:
    backlog = Backlog()
    grown(backlog, 7)
    backlog.ran(64, 4 * BATCH_SECONDS)
    assert backlog.size == 16
    backlog.ran(16, 100.0)
    assert backlog.size == 1


def test_a_long_job_ends_hoarding() -> None:
    backlog = Backlog()
    grown(backlog, 9)
    backlog.long_job()
    assert backlog.size == 1


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 1e6)), max_size=50))
def test_a_claim_is_always_possible(history: list[tuple[int, float]]) -> None:
    backlog = Backlog()
    for count, seconds in history:
        backlog.ran(count, seconds)
        assert 1 <= backlog.size <= 500


@pytest.mark.parametrize("started", [0, 1, 3, 5])
def test_what_is_given_back_is_what_was_not_started_in_order(started: int) -> None:
    backlog = Backlog()
    deliveries: list[Any] = list(range(5))
    backlog.extend(deliveries)
    assert [backlog.take() for _ in range(started)] == deliveries[:started]
    assert len(backlog) == 5 - started
    assert backlog.surrender() == deliveries[started:]
    assert backlog.take() is None and backlog.surrender() == [] and len(backlog) == 0
