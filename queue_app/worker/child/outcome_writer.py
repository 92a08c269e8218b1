"""Writes outcomes into the record, and repeats this until it succeeds.

It waits for the end of an outage. A value that the database refuses costs no other outcome of the group. An outcome
that is refused alone is written as a failure with the reason. If that is refused as well, a trial write shows whether
the database refuses every outcome, as when its tables are newer than the code: that is an outage too. Otherwise the
record of this one job is broken: the job stays held by its child, and an error is logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import Error

from queue_app.domain.error_text import clean
from queue_app.domain.outcome import Outcome
from queue_app.lifecycle import settle
from queue_app.lifecycle.database import refresh
from queue_app.lifecycle.store_health import check_writes, is_outage
from queue_app.worker.child.backoff import Backoff, StoreMonitor

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds without a write after which the connection is looked at first: it may be gone.
IDLE_SECONDS = 2.0


class OutcomeWriter:
    """Writes the outcomes of one child.

    Args:
        worker_id: of the worker that makes the attempts.
        monitor: is told when the database fails, and when it answers again.
    """

    def __init__(self, worker_id: str, monitor: StoreMonitor) -> None:
        self._worker_id = worker_id
        self._monitor = monitor
        self._written_at = 0.0

    def record(self, group: list[Outcome]) -> tuple[set[str], list[Outcome]]:
        """Write a group, for as long as it takes.

        Returns:
            The ids whose outcome counted; and the outcomes that cannot be recorded, whose jobs must stay held.
        """

        def write(again: bool) -> set[str]:
            accepted = settle.record(group, self._worker_id)
            return self._with_recorded(accepted, group) if again else accepted

        try:
            return self._until_answered(write), []
        except Error as error:
            if len(group) == 1:
                return self._record_refused(group[0], error)
        half = len(group) // 2
        first, second = self.record(group[:half]), self.record(group[half:])
        return first[0] | second[0], first[1] + second[1]

    def _with_recorded(self, accepted: set[str], group: list[Outcome]) -> set[str]:
        """After a try that may have been carried out: also what it has written."""
        if len(accepted) < len(group):
            accepted |= settle.recorded(group, self._worker_id)
        return accepted

    def _record_refused(self, outcome: Outcome, error: Error) -> tuple[set[str], list[Outcome]]:
        job_id = outcome.delivery.id
        while True:
            said = clean(f"The outcome could not be recorded: {error}", 1_000)
            for one in (outcome, outcome.as_failure(said)):

                def write(again: bool, one: Outcome = one) -> set[str]:
                    accepted = settle.record_alone(one, self._worker_id)
                    return self._with_recorded(accepted, [one]) if again else accepted

                try:
                    accepted = self._until_answered(write)
                except Error as refusal:
                    error = refusal
                    continue
                how = "as it is, alone" if one is outcome else "as a failure"
                logger.error("The outcome of job %s was refused (%s) and is recorded %s.", job_id, error, how)
                outcome.become(one)
                return accepted, []
            if not self._until_answered(_takes_any):
                break
        logger.error(
            "The outcome of job %s cannot be recorded, the job stays with its child: %s", job_id, error
        )
        return set(), [outcome]

    def _until_answered(self, ask: Callable[[bool], T]) -> T:
        """Ask the database, for as long as it takes.

        Args:
            ask: is told whether it was asked before: it may have been done then, and the answer lost.

        Raises:
            DataError, IntegrityError: the database refuses a value.
        """
        waiting = Backoff(self._monitor)
        while True:
            try:
                if time.monotonic() - self._written_at > IDLE_SECONDS:
                    refresh()
                found = ask(waiting.has_failed)
            except Error as error:
                if not is_outage(error):
                    raise
                refresh(close=True)
                waiting.failed(error)
            else:
                self._written_at = time.monotonic()
                self._monitor.database_answered()
                return found


def _takes_any(waited: bool) -> bool:
    """Returns once the database takes outcomes: whether that had to be waited for."""
    check_writes()
    return waited
