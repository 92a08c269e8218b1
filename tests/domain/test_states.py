"""The table of transitions, against rules that are said here in other words."""

from __future__ import annotations

from itertools import product

import pytest

from queue_app.domain.states import (
    FINAL,
    TIMED,
    TRANSITIONS,
    UNFINISHED,
    WAITING,
    JobState,
    S,
    is_legal,
    sources,
)

CLAIMABLE = {S.SCHEDULED, S.QUEUED, S.RETRYING}


def expected(old: JobState, new: JobState) -> bool:
    """Whether this step makes sense, by what the states mean."""
    if old in {S.SUCCEEDED, S.CANCELLED, S.EXPIRED}:
        return False  # final for good
    if old is S.FAILED:
        return new is S.QUEUED  # only a replay leaves it
    if new is S.BLOCKED:
        return False  # a job is blocked when it is made, or never
    if old is S.BLOCKED:
        return new not in {S.RUNNING, S.SUCCEEDED, S.RETRYING, S.BLOCKED}  # it has not been attempted
    if old is S.RUNNING:
        return new not in {S.RUNNING, S.EXPIRED}  # it has started, so it cannot be too late to start
    return True  # a short attempt never says `running`: every outcome may follow at once


@pytest.mark.parametrize("old,new", list(product(JobState, JobState)), ids=lambda s: s.value)
def test_transition(old: JobState, new: JobState) -> None:
    assert is_legal(old, new) is expected(old, new)
    assert is_legal(old.value, new.value) is expected(old, new)
    assert (old in sources(new)) is expected(old, new)


def test_every_state_has_its_row_and_its_group() -> None:
    assert set(TRANSITIONS) == set(JobState)
    assert set(JobState) == FINAL | UNFINISHED and not FINAL & UNFINISHED
    assert WAITING | {S.RUNNING} == UNFINISHED
    assert TIMED < WAITING
    assert WAITING - {S.BLOCKED} == CLAIMABLE


def test_every_state_can_be_left_or_is_final() -> None:
    assert {state for state, targets in TRANSITIONS.items() if not targets} == FINAL - {S.FAILED}
    for state in UNFINISHED:
        assert TRANSITIONS[state] & FINAL, f"{state} can never end"


def test_an_unknown_word_is_an_error() -> None:
    with pytest.raises(ValueError, match="'done'"):
        is_legal("queued", "done")
