"""The states of a job, their groups, and the one table of legal transitions.

`lifecycle` is the only writer of `Job.state`; the database refuses impossible rows through CHECK
constraints that are made from the groups below.
"""

from __future__ import annotations

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class JobState(TextChoices):
    #: Waits for its `run_after`, before its first attempt. The dispatch moves it on when it is due.
    SCHEDULED = "scheduled", _("Scheduled")
    #: Waits for other jobs. The last of these moves it on.
    BLOCKED = "blocked", _("Blocked")
    #: May start now. A claim moves it on.
    QUEUED = "queued", _("Queued")
    #: An attempt has been under way for more than a moment. Its outcome moves it on.
    RUNNING = "running", _("Running")
    #: An attempt failed and the next one waits for its time. The dispatch moves it on when it is due.
    RETRYING = "retrying", _("Retrying")
    #: The task returned. Final.
    SUCCEEDED = "succeeded", _("Succeeded")
    #: No further attempt will be made; a dead letter says why. A replay makes it `queued` again.
    FAILED = "failed", _("Failed")
    #: It was cancelled. Final.
    CANCELLED = "cancelled", _("Cancelled")
    #: Its time to start had passed before it could. Final.
    EXPIRED = "expired", _("Expired")


S = JobState

#: Not started, or between attempts: their dispatch can be rebuilt from the row.
WAITING = frozenset({S.SCHEDULED, S.BLOCKED, S.QUEUED, S.RETRYING})
#: Of these, what Redis is to know.
DISPATCHED = WAITING - {S.BLOCKED}
#: Waiting for a time.
TIMED = frozenset({S.SCHEDULED, S.RETRYING})
#: All that may still be attempted.
UNFINISHED = WAITING | {S.RUNNING}
#: An attempt of these may begin or end.
ATTEMPTABLE = UNFINISHED - {S.BLOCKED}
#: Nothing more happens by itself; `finished_at` is set.
FINAL = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELLED, S.EXPIRED})

#: from → to. A short attempt never shows `running` in the record (DESIGN §4), hence the outcomes
#: that follow a waiting state directly.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    S.SCHEDULED: frozenset(
        {S.QUEUED, S.RUNNING, S.SCHEDULED, S.RETRYING, S.SUCCEEDED, S.FAILED, S.CANCELLED, S.EXPIRED}
    ),
    S.BLOCKED: frozenset({S.QUEUED, S.SCHEDULED, S.CANCELLED, S.FAILED, S.EXPIRED}),
    S.QUEUED: frozenset(
        {S.QUEUED, S.RUNNING, S.SCHEDULED, S.RETRYING, S.SUCCEEDED, S.FAILED, S.CANCELLED, S.EXPIRED}
    ),
    S.RUNNING: frozenset({S.QUEUED, S.SCHEDULED, S.RETRYING, S.SUCCEEDED, S.FAILED, S.CANCELLED}),
    S.RETRYING: frozenset(
        {S.QUEUED, S.RUNNING, S.SCHEDULED, S.RETRYING, S.SUCCEEDED, S.FAILED, S.CANCELLED, S.EXPIRED}
    ),
    S.SUCCEEDED: frozenset(),
    S.FAILED: frozenset({S.QUEUED}),
    S.CANCELLED: frozenset(),
    S.EXPIRED: frozenset(),
}


class AttemptState(TextChoices):
    """How one run of a job ended. An attempt is written once, when it has ended."""

    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    #: Ended by its time limit.
    TIMED_OUT = "timed_out", _("Timed out")
    #: The process that ran it died.
    LOST = "lost", _("Lost")
    #: The task asked for another time (`Snooze`).
    SNOOZED = "snoozed", _("Snoozed")
    CANCELLED = "cancelled", _("Cancelled")


class DeadReason(TextChoices):
    """Why a job lies in the dead letters."""

    EXHAUSTED = "exhausted", _("All attempts failed")
    DISCARDED = "discarded", _("The task gave up (Discard)")
    NOT_RETRYABLE = "not_retryable", _("The error is not one to retry")
    POISON = "poison", _("Its worker process died too often")


def sources(target: JobState) -> frozenset[JobState]:
    """The states from which `target` may be reached."""
    return frozenset(state for state, targets in TRANSITIONS.items() if target in targets)


def is_legal(old: str, new: str) -> bool:
    """Whether a job may go from `old` to `new`."""
    return JobState(new) in TRANSITIONS[JobState(old)]
