"""What a child has claimed but not started, and how many it claims next."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from queue_app.worker.child.prefetch import BATCH_SECONDS, Prefetch


def grown(prefetch: Prefetch, rounds: int) -> list[int]:
    """The sizes of as many claims, all of short jobs."""
    sizes = []
    for _ in range(rounds):
        sizes.append(prefetch.batch_size)
        prefetch.observe(prefetch.batch_size, 0.001)
    return sizes


def test_claims_double_while_jobs_are_short() -> None:
    assert grown(Prefetch(), 11) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 500, 500]


@override_settings(QUEUE_APP={"CLAIM_MAX": 3})
def test_claims_never_exceed_the_setting() -> None:
    assert grown(Prefetch(), 4) == [1, 2, 3, 3]


def test_a_claim_that_was_not_filled_does_not_grow_the_next() -> None:
    prefetch = Prefetch()
    grown(prefetch, 4)
    batch_size = prefetch.batch_size
    prefetch.observe(batch_size - 1, 0.001)
    assert prefetch.batch_size == batch_size


def test_claims_shrink_to_what_fits() -> None:
    prefetch = Prefetch()
    grown(prefetch, 7)
    prefetch.observe(64, 4 * BATCH_SECONDS)
    assert prefetch.batch_size == 16
    prefetch.observe(16, 100.0)
    assert prefetch.batch_size == 1


def test_a_long_job_ends_hoarding() -> None:
    prefetch = Prefetch()
    grown(prefetch, 9)
    prefetch.long_job()
    assert prefetch.batch_size == 1


@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 1e6)), max_size=50))
def test_a_claim_is_always_possible(history: list[tuple[int, float]]) -> None:
    prefetch = Prefetch()
    for count, seconds in history:
        prefetch.observe(count, seconds)
        assert 1 <= prefetch.batch_size <= 500


@pytest.mark.parametrize("started", [0, 1, 3, 5])
def test_what_is_given_back_is_what_was_not_started_in_order(started: int) -> None:
    prefetch = Prefetch()
    deliveries: list[Any] = list(range(5))
    prefetch.extend(deliveries)
    assert [prefetch.take() for _ in range(started)] == deliveries[:started]
    assert len(prefetch) == 5 - started
    assert prefetch.drain() == deliveries[started:]
    assert prefetch.take() is None and prefetch.drain() == [] and len(prefetch) == 0
