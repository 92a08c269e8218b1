"""Every log line of the product's events: core code sends signals, this file words them."""

from __future__ import annotations

import logging
from typing import Any

from queue_app import signals
from queue_app.domain.states import AttemptState, JobState
from queue_app.observability.log_format import one_line

logger = logging.getLogger("queue_app")


def _say(level: int, text: str, *values: Any) -> None:
    """Log an event. Its values may come from a task: they must not end the line, whatever formatter there is."""
    if logger.isEnabledFor(level):
        shown = [value if isinstance(value, int | float) else one_line(str(value)) for value in values]
        logger.log(level, text, *shown, stacklevel=2)


def _attempts_finished(outcomes: list[Any], **_: Any) -> None:
    debug = logger.isEnabledFor(logging.DEBUG)
    succeeded = AttemptState.SUCCEEDED
    for outcome in outcomes:
        if outcome.state is not succeeded:
            _not_succeeded(outcome)
        elif debug:
            _say(logging.DEBUG, "Job %s (%s) succeeded.", outcome.delivery.id, outcome.delivery.task)


def _not_succeeded(outcome: Any) -> None:
    delivery = outcome.delivery
    if outcome.state is AttemptState.SNOOZED:
        _say(logging.INFO, "Job %s (%s) was put off by its task.", delivery.id, delivery.task)
        return
    if outcome.job_state is JobState.CANCELLED:
        said = "was interrupted" if outcome.state is AttemptState.CANCELLED else outcome.state.label.lower()
        _say(
            logging.INFO,
            "Attempt %d of job %s (%s) %s; the job is cancelled.",
            delivery.number,
            delivery.id,
            delivery.task,
            said,
        )
        return
    _say(
        logging.WARNING if outcome.run_at is not None else logging.ERROR,
        "Attempt %d of job %s (%s) %s: %s: %s%s",
        delivery.number,
        delivery.id,
        delivery.task,
        outcome.state.label.lower(),
        outcome.error_class or "no exception",
        outcome.error,
        "" if outcome.run_at is None else " It will be tried again.",
    )


def _outcomes_refused(outcomes: list[Any], **_: Any) -> None:
    for outcome in outcomes:
        _say(
            logging.WARNING,
            "The outcome (%s) of attempt %d of job %s does not count: the record expects another delivery.",
            outcome.state.value,
            outcome.delivery.number,
            outcome.delivery.id,
        )


def _dead_lettered(job_id: str, task: str, reason: str, error: str, **_: Any) -> None:
    _say(logging.ERROR, "Job %s (%s) went to the dead letters (%s): %s", job_id, task, reason, error)


def _jobs_recovered(worker_id: str, lost: list[str], returned: list[str], cause: str, **_: Any) -> None:
    _say(
        logging.WARNING,
        "Worker %s: %d running jobs were lost (%s) and %d unstarted ones taken back.",
        worker_id,
        len(lost),
        cause,
        len(returned),
    )


def _store_lost(store: str, error: str, **_: Any) -> None:
    _say(logging.ERROR, "Lost the %s: %s", store, error)


def _store_returned(store: str, downtime: float, **_: Any) -> None:
    _say(logging.WARNING, "The %s is back after %.1f s.", store, downtime)


def _schedule_failed(schedule: str, error: str, **_: Any) -> None:
    _say(logging.ERROR, "The schedule %r cannot be enqueued, its ticks wait: %s", schedule, error)


def _operated(verb: str, user: Any, count: int, **details: Any) -> None:
    _say(logging.INFO, "%s: %s of %d.", user or "somebody", verb, count)


for _signal, _receiver in (
    (signals.attempts_finished, _attempts_finished),
    (signals.outcomes_refused, _outcomes_refused),
    (signals.dead_lettered, _dead_lettered),
    (signals.jobs_recovered, _jobs_recovered),
    (signals.store_lost, _store_lost),
    (signals.store_returned, _store_returned),
    (signals.schedule_failed, _schedule_failed),
    (signals.operated, _operated),
):
    _signal.connect(_receiver, dispatch_uid=f"queue_app.observability.log.{_receiver.__name__}")
