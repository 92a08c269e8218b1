"""The jobs that run in a child at this moment: one for each busy slot, with its start, progress and cancellation.

The slot threads write here. The recorder's thread and signal handlers read. Each access is one step of a list, dict or
set, so that no lock is needed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from queue_app import clock, conf
from queue_app.domain.delivery import Delivery
from queue_app.worker.shared_state import SharedState


class RunningJobs:
    """What runs in the slots of one child; mirrored in the shared state. It is the `AttemptMonitor` of its jobs.

    Args:
        shared: the worker's shared state.
        index: the child's index in it.
        slots: how many jobs the child runs at once.

    Attributes:
        cancelled: ids of jobs that run here and were cancelled. An id is added once, by `find_cancelled`.
        progress_of: job id → latest progress, not recorded with an outcome yet.
    """

    def __init__(self, shared: SharedState, index: int, slots: int) -> None:
        self._shared = shared
        self._index = index
        self._current: list[tuple[Delivery, float] | None] = [None] * slots
        self._cancelled: set[str] = set()
        self._progress: dict[str, str] = {}
        #: Ids of jobs in a slot whose rows must not be marked as running.
        self._unmarkable: set[str] = set()
        self.cancelled: AbstractSet[str] = self._cancelled
        self.progress_of: Mapping[str, str] = self._progress

    # by the thread that runs the job

    def start(self, slot: int, delivery: Delivery, hard: float | None) -> float:
        """A job occupies a slot.

        Args:
            hard: seconds until the supervisor kills the child for it; None: no limit.

        Returns:
            When it started: now, in epoch seconds.
        """
        now = clock.seconds()
        until = 0.0 if hard is None else time.monotonic() + hard
        self._current[slot] = (delivery, now)
        self._shared.start(self._index, slot, delivery.id, delivery.number, now, until)
        return now

    def end(self, slot: int, delivery: Delivery) -> str | None:
        """The slot is free again.

        Returns:
            The job's latest progress, or None.
        """
        self._shared.end(self._index, slot)
        self._current[slot] = None
        if self._cancelled:
            self._cancelled.discard(delivery.id)
        if self._unmarkable:
            self._unmarkable.discard(delivery.id)
        return self._progress.pop(delivery.id, None) if self._progress else None

    def start_import(self, slot: int, delivery: Delivery) -> None:
        """The module of a job's task is about to be imported, in the job's slot, within IMPORT_TIMEOUT."""
        now = clock.seconds()
        self._unmarkable.add(delivery.id)  # the task does not run yet
        self._current[slot] = (delivery, now)
        until = time.monotonic() + conf.get().IMPORT_TIMEOUT
        self._shared.importing(self._index, slot, delivery.id, delivery.number, now, until)

    def end_import(self, slot: int, delivery: Delivery, *, starts: bool) -> None:
        """The import has ended.

        Args:
            starts: whether the job will start. If so, a cancellation that arrived during the import stays known.
        """
        self._shared.end(self._index, slot)
        self._current[slot] = None
        self._unmarkable.discard(delivery.id)
        if not starts:
            self._cancelled.discard(delivery.id)

    def forbid_marking(self, delivery: Delivery) -> None:
        """The row of this job must not be marked as running until `allow_marking` or the end of the job."""
        self._unmarkable.add(delivery.id)

    def allow_marking(self, delivery: Delivery) -> None:
        """The opposite of `forbid_marking`."""
        self._unmarkable.discard(delivery.id)

    # by the task, through its context

    def progress(self, delivery: Delivery, text: str) -> None:
        """Keep an attempt's progress. It is recorded at the next tick or with the outcome.

        Args:
            text: JSON, as `JobContext.progress` makes it.
        """
        self._progress[delivery.id] = text

    def is_cancelled(self, delivery: Delivery) -> bool:
        """Whether this running job was cancelled."""
        return delivery.id in self._cancelled or any(
            entry is not None
            and entry[0] is delivery
            and self._shared.is_cancelled(self._index, slot, delivery.id)
            for slot, entry in enumerate(self._current)
        )

    # by other threads and signal handlers

    def set_exclusive(self, exclusive: bool) -> None:
        """Say in the shared state whether the child claims nothing, because one job has to run alone in it."""
        self._shared.set_exclusive(self._index, exclusive)

    def has(self, job_id: str) -> bool:
        """Whether this job runs in any slot."""
        return any(entry is not None and entry[0].id == job_id for entry in self._current)

    def markable(self) -> Iterator[tuple[int, Delivery, float, bool]]:
        """What runs: slot, delivery, start in epoch seconds, and whether its row may be marked as running."""
        for slot, entry in enumerate(self._current):
            if entry is not None:
                delivery, started_at = entry
                yield slot, delivery, started_at, delivery.id not in self._unmarkable

    def find_cancelled(self) -> list[str]:
        """Ids of running jobs that the keeper has marked as cancelled since the last call. Safe in a signal handler."""
        found = []
        for slot, entry in enumerate(self._current):
            if entry is None:
                continue
            job_id = entry[0].id
            if job_id not in self._cancelled and self._shared.is_cancelled(self._index, slot, job_id):
                self._cancelled.add(job_id)
                found.append(job_id)
        return found
