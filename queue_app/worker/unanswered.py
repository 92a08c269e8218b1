"""A COMMIT whose answer is lost: was the transaction of an atomic job committed?

It is settled by writing, under the same guard, that the attempt failed: either this counts, and then the transaction is
not there and never will be; or the attempt is found there, and it is.
"""

from __future__ import annotations

import logging
import time
from typing import Protocol

from django.db import DatabaseError, InterfaceError, OperationalError

from queue_app.lifecycle import recover, settle
from queue_app.lifecycle.outcome import Outcome
from queue_app.worker import connections
from queue_app.worker.executor import class_path, message

logger = logging.getLogger(__name__)

#: Seconds between two tries while the database is away: first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


class Watched(Protocol):
    """Who is told of the database's absence, and that it is back: the recorder."""

    def database_failed(self, error: BaseException) -> None: ...
    def database_answered(self) -> None: ...


class Waiting:
    """Waits between two tries, longer each time; tells the recorder, so that nothing is claimed meanwhile."""

    def __init__(self, recorder: Watched) -> None:
        self._recorder = recorder
        self._pause = FIRST_PAUSE
        self._failed = False

    def failed(self, error: BaseException) -> None:
        """A try has failed."""
        self._failed = True
        self._recorder.database_failed(error)
        time.sleep(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def over(self) -> None:
        """The database has answered."""
        if self._failed:
            self._recorder.database_answered()


def lost(outcome: Outcome, error: Exception) -> Outcome:
    """The attempt, if it is not there: nobody's failure, but a job that breaks its connection each time must not go
    round for ever, hence a death like that of its process."""
    delivery = outcome.delivery
    running = {delivery.id: outcome.started_at or outcome.finished_at}
    cause = recover.Cause(f"the connection was lost before its commit: {message(error).strip()}", running)
    found = recover.lost(delivery, cause)
    found.error_class = class_path(error)
    found.suspect = False  # its process lives
    return found


def resolve(
    recorder: Watched, worker_id: str, outcome: Outcome, instead: Outcome
) -> tuple[Outcome, bool | None]:
    """Find out whether `outcome` is committed; asked for as long as it takes.

    A transaction that is still open somewhere has the job's row locked, so that the write below waits for its end.

    Args:
        instead: what holds if it is not.

    Returns:
        `outcome` and True if it is; `instead` and True if that is recorded now; `outcome` and False if the job is
        another delivery's by now; `instead` and None if the database refuses it: the recorder has to deal with it.
    """
    waiting = Waiting(recorder)
    while True:
        try:
            undone = settle.record([instead], worker_id) or settle.recorded([instead], worker_id)
            done = not undone and settle.recorded([outcome], worker_id)
            break
        except (OperationalError, InterfaceError) as error:
            connections.refresh(close=True)
            waiting.failed(error)
        except DatabaseError:
            logger.exception("Whether job %s was committed is left to the recorder.", outcome.delivery.id)
            return instead, None
    waiting.over()
    if done:
        logger.warning("Job %s was committed.", outcome.delivery.id)
    return (instead if undone else outcome), bool(done or undone)
