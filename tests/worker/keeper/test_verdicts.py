"""What the keeper makes of a child's death: who is to blame, who may be, and who is not."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from queue_app.domain.outcome import Outcome, lost
from queue_app.domain.states import AttemptState, DeadReason
from queue_app.worker.keeper.verdicts import cause_of
from queue_app.worker.pipes import ChildExited
from tests.support.executing import delivery

ID, OTHER = "some-id", "other-id"


def outcome(death: ChildExited, **fields: Any) -> Outcome:
    """What becomes of the job `some-id`."""
    found, cause = delivery(**fields), cause_of(death)
    return cause.verdicts[ID](found, death.running.get(ID)) if ID in cause.verdicts else lost(found, cause)


def test_a_child_that_ended_without_a_word() -> None:
    assert outcome(ChildExited(1, "", {ID: 5.0})).error == "ended"


@pytest.mark.parametrize("deaths,dead", [(1, None), (2, DeadReason.POISON)])
def test_an_import_that_hangs_is_a_death_of_its_own(deaths: int, dead: DeadReason | None) -> None:
    death = ChildExited(
        1, "killed by SIGKILL", {ID: 5.0}, importing=[ID], import_timed_out={ID: 60.2}, blameless=True
    )
    made = outcome(death, task="shop.jobs.pay", deaths=deaths)
    assert (made.state, made.counts, made.dead_reason, made.suspect) == (AttemptState.LOST, True, dead, True)
    assert made.started_at == 5.0
    assert made.error == (
        "killed by SIGKILL, while importing shop.jobs, which takes longer than IMPORT_TIMEOUT (60 s)"
    )


def test_who_ran_beside_an_import_that_hangs_is_not_to_blame() -> None:
    death = ChildExited(
        1, "killed", {ID: 5.0, OTHER: 5.0}, importing=[OTHER], import_timed_out={OTHER: 60.2}, blameless=True
    )
    made = outcome(death, deaths=9)
    assert (made.counts, made.dead_reason, made.suspect, made.error) == (False, None, False, "killed")


def test_of_several_an_import_that_hangs_may_be_held_up_by_another() -> None:
    """Such as one whose C code never lets go of the interpreter's lock."""
    death = ChildExited(
        1, "killed", {ID: 5.0, OTHER: 5.0}, importing=[ID], import_timed_out={ID: 60.2}, blameless=True
    )
    made = outcome(death, deaths=9)
    assert (made.counts, made.dead_reason, made.suspect) == (False, None, True)


def test_a_time_limit_follows_the_tasks_own_policy_though_it_was_not_imported_here() -> None:
    death = ChildExited(1, "killed", {ID: 5.0}, timed_out={ID: 7.0}, blameless=True)
    made = outcome(death, task="tests.app.late_tasks.patient", max_attempts=5)
    assert made.state is AttemptState.TIMED_OUT and made.run_at is not None
    assert 3_500 < made.run_at - made.finished_at < 3_700


def test_a_time_limit_of_a_task_that_is_not_known_here_follows_the_settings() -> None:
    death = ChildExited(1, "killed", {ID: 5.0}, timed_out={ID: 7.0}, blameless=True)
    with override_settings(QUEUE_APP={"BACKOFF_BASE": 1.0, "BACKOFF_JITTER": "none"}):
        made = outcome(death, task="tests.app.nowhere.patient", max_attempts=5)
    assert made.run_at is not None and made.run_at - made.finished_at == pytest.approx(1.0, abs=0.1)


def test_the_keeper_does_not_wait_for_a_module_that_takes_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    death = ChildExited(1, "killed", {ID: 5.0}, timed_out={ID: 7.0}, blameless=True)
    with override_settings(QUEUE_APP={"BACKOFF_BASE": 1.0, "BACKOFF_JITTER": "none", "LEASE": 1.0}):
        made = outcome(death, task="tests.app.slow_to_import.patient", max_attempts=5)
    assert made.run_at is not None and made.run_at - made.finished_at == pytest.approx(1.0, abs=0.1)
    assert "the keeper is still importing its module" in caplog.text
