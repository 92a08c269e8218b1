"""What came of running a delivery: a value that knows no database and no Redis. Made here and nowhere else."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any

from queue_app import clock, conf
from queue_app.domain import retry
from queue_app.domain.causes import Cause
from queue_app.domain.delivery import Delivery
from queue_app.domain.ending import Ending
from queue_app.domain.error_text import Hide, class_path, log_error, message, trace
from queue_app.domain.retry import Decision, RetryPolicy
from queue_app.domain.states import AttemptState, DeadReason, JobState
from queue_app.exceptions import Discard, HardTimeout, Retry, Snooze, SoftTimeout

logger = logging.getLogger(__name__)

SUCCEEDED = AttemptState.SUCCEEDED


@dataclass(slots=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        started_at, finished_at: epoch seconds.
        result: JSON text of the return value; None for None.
        error_class, error, traceback: of the exception, or the cause of a loss.
        run_at: epoch seconds of the next attempt, where there is one.
        counts: whether the attempt counts as a failure.
        dead_reason: why there is no further attempt.
        suspect: its process died, and it may have been the cause: the next attempt is to run alone in its process.
        overruled: its job was to be cancelled, so that it ended whatever the attempt came to. Known once recorded.
        exception: the exception itself, for receivers of the finishing signal.
        carrier: what the Tasks API's signals are sent with (its TaskResult), or None.
        ending: the row values as they were last written; None before.
    """

    delivery: Delivery
    state: AttemptState
    started_at: float | None
    finished_at: float
    result: str | None = None
    error_class: str = ""
    error: str = ""
    traceback: str = ""
    run_at: float | None = None
    counts: bool = True
    dead_reason: DeadReason | None = None
    suspect: bool = False
    overruled: bool = False
    progress: str | None = None
    exception: BaseException | None = None
    task_result: Any = field(default=None, repr=False)
    ending: Ending | None = field(default=None, init=False, repr=False)

    def overrule(self) -> None:
        """Nothing follows this attempt: its job is cancelled."""
        self.overruled, self.run_at, self.dead_reason = True, None, None

    def as_failure(self, error: str) -> Outcome:
        """The same attempt as a failure after which nothing follows, without any value that the task has given."""
        return replace(
            self,
            state=AttemptState.FAILED,
            result=None,
            progress=None,
            error_class="",
            error=error,
            traceback="",
            run_at=None,
            dead_reason=DeadReason.NOT_RETRYABLE,
        )

    def become(self, other: Outcome) -> None:
        """Take over all that another outcome of the same delivery says."""
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))

    @property
    def job_state(self) -> JobState:
        """The state that the job goes to."""
        if self.state == AttemptState.SUCCEEDED:
            return JobState.SUCCEEDED
        if self.overruled or self.state == AttemptState.CANCELLED:
            return JobState.CANCELLED
        if self.dead_reason is not None:
            return JobState.FAILED
        if self.run_at is None:
            return JobState.QUEUED
        return JobState.SCHEDULED if self.state == AttemptState.SNOOZED else JobState.RETRYING


def succeeded(delivery: Delivery, started: float, result: str | None, task_result: Any = None) -> Outcome:
    """The outcome of an attempt that returned; `result` is JSON text, None for None."""
    return Outcome(delivery, SUCCEEDED, started, clock.seconds(), result, task_result=task_result)


def failed(
    policy: RetryPolicy | None,
    delivery: Delivery,
    started: float,
    error: BaseException,
    *,
    task_result: Any = None,
    caller: str = "",
    hide: Hide | None = None,
) -> Outcome:
    """The outcome of an attempt that ended with this exception: failed, snoozed or timed out.

    Args:
        policy: the task's; None for that of the settings.
        caller, hide: see `error_text.trace`.
    """
    now = clock.seconds()
    decision = decide(policy, delivery, error, now, hide)
    state = AttemptState.FAILED
    if isinstance(error, Snooze):
        state = AttemptState.SNOOZED
    elif isinstance(error, SoftTimeout | HardTimeout):
        state = AttemptState.TIMED_OUT
    return Outcome(
        delivery,
        state,
        started,
        now,
        error_class=class_path(error),
        error=message(error, hide),
        traceback="" if state is AttemptState.SNOOZED else trace(error, caller, hide),
        run_at=decision.run_at,
        counts=decision.counts,
        dead_reason=decision.reason,
        exception=error,
        task_result=task_result,
    )


def killed(policy: RetryPolicy | None, delivery: Delivery, started: float | None, seconds: float) -> Outcome:
    """The outcome of an attempt whose process was killed at its hard limit."""
    now = clock.seconds()
    error = HardTimeout(f"Killed after {seconds:.1f} s, its hard time limit.")
    decision = decide(policy, delivery, error, now)
    return Outcome(
        delivery,
        AttemptState.TIMED_OUT,
        started,
        now,
        error_class=class_path(error),
        error=str(error),
        run_at=decision.run_at,
        dead_reason=decision.reason,
    )


def cancelled(
    delivery: Delivery,
    started: float | None,
    error: BaseException,
    *,
    task_result: Any = None,
    caller: str = "",
    hide: Hide | None = None,
) -> Outcome:
    """The outcome of an attempt that was interrupted, or killed, because its job was cancelled."""
    return Outcome(
        delivery,
        AttemptState.CANCELLED,
        started,
        clock.seconds(),
        error_class=class_path(error),
        error=message(error, hide),
        traceback=trace(error, caller, hide) if error.__traceback__ else "",
        counts=False,
        exception=error,
        task_result=task_result,
    )


def lost(delivery: Delivery, cause: Cause) -> Outcome:
    """The outcome of an attempt whose process died. It does not use up the job's attempts; but a job that keeps
    killing its process is quarantined (P9)."""
    poison = cause.counts and delivery.deaths + 1 >= conf.get().POISON_AFTER
    return Outcome(
        delivery,
        AttemptState.LOST,
        (cause.running or {}).get(delivery.id, delivery.claimed_at),
        clock.seconds(),
        error_class="" if cause.blameless else "queue_app.exceptions.ProcessDied",
        error=cause.words(delivery),
        counts=cause.counts,
        dead_reason=DeadReason.POISON if poison else None,
        suspect=delivery.suspect or not cause.blameless,
    )


def decide(
    policy: RetryPolicy | None,
    delivery: Delivery,
    error: BaseException,
    now: float,
    hide: Hide | None = None,
) -> Decision:
    """What follows a failed attempt. If the task's own backoff function fails, that is logged, and the settings' policy
    is used.

    Args:
        hide: masks what is logged.
    """
    arguments: dict[str, Any] = {
        "failures": delivery.failures,
        "max_attempts": delivery.max_attempts,
        "now": now,
    }
    try:
        return retry.decide(policy, error, **arguments)
    except Exception as failure:
        text = "The backoff of %s failed for job %s; the default one is used."
        log_error(logger, failure, text, delivery.task, delivery.id, hide=hide)
        plain = RuntimeError() if isinstance(error, Retry | Snooze | Discard) else error
        return retry.decide(None, plain, **arguments)
