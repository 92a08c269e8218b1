"""Job ids sort by the time they were made, and can be cut by it."""

from __future__ import annotations

import time
import uuid

from hypothesis import given
from hypothesis import strategies as st

from queue_app import clock
from queue_app.domain import ids


def test_ids_are_uuids_of_version_7_in_order() -> None:
    made = [ids.new_text() for _ in range(2_000)]
    assert made == sorted(made) and len(set(made)) == len(made)
    parsed = uuid.UUID(made[0])
    assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, made[0])
    assert isinstance(ids.new_id(), uuid.UUID) and ids.new_id().version == 7


def test_an_id_knows_when_it_was_made() -> None:
    before = time.time()
    made = ids.new_id()
    assert before - 0.001 <= ids.made_at(made) <= time.time()
    assert ids.floor(before - 1) < made < ids.floor(time.time() + 1)


@given(st.integers(0, 2**42), st.integers(0, 2**42))
def test_floors_are_in_the_order_of_their_times(a: int, b: int) -> None:
    first, second = ids.floor(a / 1000), ids.floor(b / 1000)
    assert (first <= second) if a <= b else (second <= first)
    assert 0 <= a / 1000 - ids.made_at(first) < 0.0011  # never later: a range by age misses nothing
    assert (first.version, first.variant) == (7, uuid.RFC_4122)


def test_the_clock_can_be_moved_and_put_back() -> None:
    clock.travel(lambda: 1_800_000_000.5)
    try:
        assert clock.seconds() == 1_800_000_000.5
        assert clock.now().isoformat() == "2027-01-15T08:00:00.500000+00:00"
    finally:
        clock.travel()
    assert abs(clock.seconds() - time.time()) < 5
