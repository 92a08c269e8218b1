"""What an outcome makes of its job."""

from __future__ import annotations

from typing import Any

import pytest

from queue_app.domain.causes import Cause
from queue_app.domain.ending import ending
from queue_app.domain.outcome import Outcome, lost
from queue_app.domain.states import TRANSITIONS, AttemptState, DeadReason, JobState, S
from tests.support.executing import delivery

A = AttemptState


def outcome(state: AttemptState, **fields: Any) -> Outcome:
    return Outcome(delivery(failures=1, deaths=1, number=4), state, 5.0, 6.0, **fields)


@pytest.mark.parametrize(
    "made,state",
    [
        (outcome(A.SUCCEEDED), S.SUCCEEDED),
        (outcome(A.FAILED, run_at=9.0), S.RETRYING),
        (outcome(A.TIMED_OUT, run_at=9.0), S.RETRYING),
        (outcome(A.FAILED, dead_reason=DeadReason.EXHAUSTED), S.FAILED),
        (outcome(A.TIMED_OUT, dead_reason=DeadReason.EXHAUSTED), S.FAILED),
        (outcome(A.SNOOZED, run_at=9.0, counts=False), S.SCHEDULED),
        (outcome(A.LOST), S.QUEUED),
        (outcome(A.LOST, dead_reason=DeadReason.POISON), S.FAILED),
        (outcome(A.CANCELLED), S.CANCELLED),
    ],
)
def test_where_the_job_goes(made: Outcome, state: JobState) -> None:
    assert made.job_state is state
    assert state in TRANSITIONS[S.RUNNING]
    row = ending(made)
    assert (row.job_state, row.attempt_state) == (state.value, made.state.value)
    assert (row.number, row.started_at, row.finished_at) == (4, 5.0, 6.0)
    assert row.run_after == made.run_at


@pytest.mark.parametrize(
    "made,failures,deaths",
    [
        (outcome(A.SUCCEEDED), 1, 1),
        (outcome(A.FAILED, run_at=9.0), 2, 1),
        (outcome(A.TIMED_OUT, run_at=9.0), 2, 1),
        (outcome(A.FAILED, dead_reason=DeadReason.DISCARDED), 2, 1),
        (outcome(A.SNOOZED, run_at=9.0, counts=False), 1, 1),
        (outcome(A.LOST), 1, 2),
        (outcome(A.LOST, counts=False), 1, 1),
    ],
)
def test_what_counts(made: Outcome, failures: int, deaths: int) -> None:
    row = ending(made)
    assert (row.failures, row.deaths) == (failures, deaths)


def test_a_long_class_name_fits_its_column() -> None:
    assert len(ending(outcome(A.FAILED, error_class="x" * 300, run_at=1.0)).error_class) == 255


@pytest.mark.parametrize(
    "deaths,dead", [(0, None), (1, None), (2, DeadReason.POISON), (5, DeadReason.POISON)]
)
def test_a_job_that_keeps_killing_its_process_is_quarantined(deaths: int, dead: DeadReason | None) -> None:
    made = lost(delivery(deaths=deaths), Cause("killed by SIGSEGV"))
    assert (made.state, made.dead_reason, made.counts) == (A.LOST, dead, True)
    assert (made.error, made.error_class) == ("killed by SIGSEGV", "queue_app.exceptions.ProcessDied")


RAN = {"some-id": 5.0, "other-id": 6.0}


def test_where_several_ran_none_is_charged_and_all_are_suspects() -> None:
    made = lost(delivery(deaths=9), Cause("killed by SIGKILL", running=RAN))
    assert (made.counts, made.dead_reason, made.suspect) == (False, None, True)
    assert made.error == "killed by SIGKILL, with 1 other job in it: this one is run alone next time"
    assert made.error_class == "queue_app.exceptions.ProcessDied"
    assert (ending(made).deaths, ending(made).suspect) == (9, True)


def test_who_died_alone_is_blamed_and_stays_a_suspect() -> None:
    made = lost(delivery(deaths=1, suspect=True), Cause("exit code 3", running={"some-id": 5.0}))
    assert (made.counts, made.dead_reason, made.suspect) == (True, None, True)
    assert (made.error, ending(made).deaths, ending(made).suspect) == ("exit code 3", 2, True)


@pytest.mark.parametrize("suspect", [True, False])
def test_a_death_without_blame_changes_no_mark(suspect: bool) -> None:
    made = lost(delivery(suspect=suspect), Cause("told to stop", running=RAN, blameless=True))
    assert (made.counts, made.error, made.suspect) == (False, "told to stop", suspect)


@pytest.mark.parametrize("state", [A.SUCCEEDED, A.FAILED, A.TIMED_OUT, A.SNOOZED, A.CANCELLED])
def test_who_survives_is_a_suspect_no_more(state: AttemptState) -> None:
    made = Outcome(delivery(suspect=True), state, 5.0, 6.0, run_at=9.0)
    assert ending(made).suspect is False


def test_what_was_being_imported_is_said() -> None:
    cause = Cause("killed by SIGKILL", running={"some-id": 5.0}, importing=frozenset(["some-id"]))
    assert lost(delivery(task="shop.jobs.pay"), cause).error == "killed by SIGKILL, while importing shop.jobs"
    assert (
        lost(delivery(task="shop.jobs.pay"), Cause("x", running=cause.running, blameless=True)).error == "x"
    )


def test_a_job_of_a_worker_that_had_to_stop_is_not_to_blame() -> None:
    made = lost(delivery(deaths=9), Cause("the worker was told to stop", blameless=True))
    assert (made.dead_reason, made.counts, made.error_class) == (None, False, "")
    assert ending(made).deaths == 9


def test_a_lost_attempt_began_when_the_board_says_else_when_it_was_claimed() -> None:
    claimed = delivery()
    claimed.claimed_at = 7.0
    assert lost(claimed, Cause("x", running={"some-id": 8.5})).started_at == 8.5
    assert lost(claimed, Cause("x")).started_at == 7.0


def test_an_outcome_made_anew_forgets_what_was_written() -> None:
    made = outcome(A.FAILED, run_at=9.0)
    made.ending = ending(made)
    assert made.as_failure("refused").ending is None
