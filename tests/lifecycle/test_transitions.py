"""Every verb of the lifecycle on a job in every state: it goes where the table of transitions allows, or nowhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import product

import pytest

from queue_app import clock
from queue_app.dispatch import connection
from queue_app.domain.causes import Cause
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome, lost
from queue_app.domain.states import TRANSITIONS, AttemptState, DeadReason, JobState, S
from queue_app.lifecycle import operate, release, settle
from queue_app.lifecycle.entries import entry_of_row
from queue_app.models import Attempt, Job
from queue_app.models.sql.rows import Start
from tests.support.factories import JobFactory
from tests.support.jobs import WORKER

pytestmark = pytest.mark.django_db

#: Legal, and not yet done by any verb: nothing makes a job blocked or expired in this version.
LATER = {
    (S.SCHEDULED, S.EXPIRED),
    (S.QUEUED, S.EXPIRED),
    (S.RETRYING, S.EXPIRED),
    (S.BLOCKED, S.QUEUED),
    (S.BLOCKED, S.SCHEDULED),
    (S.BLOCKED, S.FAILED),
    (S.BLOCKED, S.EXPIRED),
}


def delivery(job: Job) -> Delivery:
    """The delivery that the row expects next, whether or not one can be under way."""
    job_id, _, raw = entry_of_row(job)
    return Delivery(job.queue, job_id, raw, clock.seconds())


def ends(
    state: AttemptState, run_after: float | None = None, reason: DeadReason | None = None
) -> Callable[[Job], None]:
    """The verb that records such an outcome."""

    def verb(job: Job) -> None:
        now = clock.seconds()
        run_at = None if run_after is None else now + run_after
        counts = state is not AttemptState.SNOOZED
        outcome = Outcome(delivery(job), state, now, now, run_at=run_at, counts=counts, dead_reason=reason)
        settle.record([outcome], WORKER)

    return verb


def loses(job: Job) -> None:
    settle.record([lost(delivery(job), Cause("killed by SIGKILL"))], WORKER)


def runs_long(job: Job) -> None:
    settle.mark_running([Start(str(job.pk), job.attempt + 1, clock.seconds(), None)], WORKER)


A = AttemptState
VERBS: dict[str, Callable[[Job], object]] = {
    "succeeds": ends(A.SUCCEEDED),
    "fails": ends(A.FAILED, run_after=5),
    "fails for good": ends(A.FAILED, reason=DeadReason.EXHAUSTED),
    "times out": ends(A.TIMED_OUT, run_after=5),
    "is put off": ends(A.SNOOZED, run_after=5),
    "is discarded": ends(A.FAILED, reason=DeadReason.DISCARDED),
    "is interrupted": ends(A.CANCELLED),
    "is lost": loses,
    "runs long": runs_long,
    "is cancelled": lambda job: operate.cancel([job.pk]),
    "is replayed": lambda job: operate.replay(jobs=[job.pk]),
    "becomes due": lambda job: release.promote_due(connection.client()),
}


def after(state: JobState, verb: str) -> tuple[JobState, Job, Job]:
    """The state that a job in `state` has after the verb, and its row before and after."""
    past = {"run_after": clock.now() - timedelta(seconds=1)} if verb == "becomes due" else {}
    before = JobFactory(state=state, **past)
    VERBS[verb](before)
    row = Job.objects.get(pk=before.pk)
    return JobState(row.state), before, row


@pytest.mark.parametrize("state,verb", list(product(JobState, VERBS)))
def test_a_verb_goes_where_it_may_or_nowhere(state: JobState, verb: str) -> None:
    new, before, row = after(state, verb)
    changed = {f.attname for f in Job._meta.fields if getattr(row, f.attname) != getattr(before, f.attname)}
    if changed:
        assert new in TRANSITIONS[state] or (new is state is S.RUNNING), f"{state} → {new}"
    else:
        assert Attempt.objects.filter(job=row).count() == before.attempt


def test_every_legal_transition_is_made_by_some_verb() -> None:
    made = set()
    for state, verb in product(JobState, VERBS):
        new, before, row = after(state, verb)
        if new is not state or row.attempt != before.attempt:
            made.add((state, new))
    legal = {(old, new) for old, targets in TRANSITIONS.items() for new in targets}
    assert made == legal - LATER
