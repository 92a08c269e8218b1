"""A COMMIT whose answer is lost: was the transaction of an atomic job committed?

The check writes, under the same guard, that the attempt was lost. If this write counts, the transaction is not
committed and never will be. If it is refused and the attempt is found recorded, the transaction is committed.
"""

from __future__ import annotations

import logging

from django.db import Error

from queue_app.domain import outcome as outcomes
from queue_app.domain.causes import Cause
from queue_app.domain.error_text import class_path, message
from queue_app.domain.outcome import Outcome
from queue_app.lifecycle import database, settle
from queue_app.lifecycle.store_health import explain, is_outage
from queue_app.worker.child.backoff import Backoff, StoreMonitor

logger = logging.getLogger(__name__)


def lost_attempt(outcome: Outcome, error: Exception) -> Outcome:
    """The outcome of an attempt that was not committed: no failure, but it counts like the death of its process.

    A job that breaks its connection each time must not be repeated for ever.
    """
    return _lost(outcome, error, f"the connection was lost before its commit: {message(error).strip()}")


def refused_attempt(outcome: Outcome, error: Exception, *, in_outage: bool) -> Outcome:
    """The outcome of an attempt that the database refused to record: it is repeated, and is no failure.

    Without a general outage the task may have broken its transaction, and may do so each time. So it counts as a death.
    """
    return _lost(outcome, error, f"the database refused its outcome: {explain(error)}", blameless=in_outage)


def _lost(outcome: Outcome, error: Exception, why: str, *, blameless: bool = False) -> Outcome:
    delivery = outcome.delivery
    running = {delivery.id: outcome.started_at or outcome.finished_at}
    found = outcomes.lost(delivery, Cause(why, running, blameless=blameless))
    found.error_class = class_path(error)
    found.suspect = False  # its process lives
    return found


def resolve(
    recorder: StoreMonitor, worker_id: str, outcome: Outcome, instead: Outcome
) -> tuple[Outcome, bool | None]:
    """Find out whether `outcome` is committed. Repeated until the database answers.

    A transaction that is still open somewhere has the job's row locked, so that the write below waits for its end.

    Args:
        instead: what holds if it is not.

    Returns:
        `outcome` and True if it is; `instead` and True if that is recorded now; `outcome` and False if the job is
        another delivery's by now; `instead` and None if the database refuses it: the recorder has to deal with it.
    """
    waiting = Backoff(recorder)
    while True:
        try:
            undone = settle.record([instead], worker_id) or settle.recorded([instead], worker_id)
            done = not undone and settle.recorded([outcome], worker_id)
            break
        except Error as error:
            if not is_outage(error):
                logger.exception("Whether job %s was committed is left to the recorder.", outcome.delivery.id)
                return instead, None
            database.refresh(close=True)
            waiting.failed(error)
    waiting.over()
    if done:
        logger.warning("Job %s was committed.", outcome.delivery.id)
    return (instead if undone else outcome), bool(done or undone)
