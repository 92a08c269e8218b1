"""How an attempt ended, as the values of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from queue_app.domain.fingerprint import fingerprint
from queue_app.domain.states import AttemptState

if TYPE_CHECKING:
    from queue_app.domain.outcome import Outcome

SUCCEEDED = AttemptState.SUCCEEDED


@dataclass(slots=True)
class Ending:
    """How an attempt ended and what that makes of its job. Times are epoch seconds.

    Attributes:
        number: the attempt; the write counts only if the row's last ended attempt is `number - 1` (the fence).
        job_state, run_after, failures, deaths, suspect: what the job row says afterwards.
        result, progress: JSON text or None.
        dead_reason, fingerprint: set when the job goes to the dead letters.
    """

    id: str
    task: str
    queue: str
    number: int
    job_state: str
    attempt_state: str
    started_at: float | None
    finished_at: float
    failures: int
    deaths: int
    run_after: float | None = None
    result: str | None = None
    progress: str | None = None
    error_class: str = ""
    error: str = ""
    traceback: str = ""
    dead_reason: str = ""
    fingerprint: str = ""
    suspect: bool = False


def ending(outcome: Outcome) -> Ending:
    """The row values of an outcome."""
    d = outcome.delivery
    if outcome.state is SUCCEEDED:  # by far the most frequent: spare it the questions
        return Ending(
            d.id,
            d.task,
            d.queue,
            d.number,
            "succeeded",
            "succeeded",
            outcome.started_at,
            outcome.finished_at,
            d.failures,
            d.deaths,
            None,
            outcome.result,
            outcome.progress,
        )
    failed = outcome.counts and outcome.state in (AttemptState.FAILED, AttemptState.TIMED_OUT)
    return Ending(
        id=d.id,
        task=d.task,
        queue=d.queue,
        number=d.number,
        job_state=outcome.job_state.value,
        attempt_state=outcome.state.value,
        started_at=outcome.started_at,
        finished_at=outcome.finished_at,
        failures=d.failures + failed,
        deaths=d.deaths + (outcome.state == AttemptState.LOST and outcome.counts),
        run_after=outcome.run_at,
        progress=outcome.progress,
        error_class=outcome.error_class[:255],
        error=outcome.error,
        traceback=outcome.traceback,
        dead_reason=outcome.dead_reason.value if outcome.dead_reason else "",
        fingerprint=fingerprint(d.task, outcome.error_class, outcome.error, outcome.traceback)
        if outcome.dead_reason
        else "",
        suspect=outcome.suspect,
    )
