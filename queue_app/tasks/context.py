"""What a running task can read and report about its job."""

from __future__ import annotations

from typing import Any, Protocol

from queue_app.domain import serialization
from queue_app.exceptions import InvalidOption


class AttemptMonitor(Protocol):
    """Watches an attempt: writes its latest progress to the record, and knows whether it was cancelled."""

    def progress(self, delivery: Any, text: str) -> None: ...

    def is_cancelled(self, delivery: Any) -> bool: ...


class JobContext:
    """Handed to tasks declared with `takes_context=True`, as their first argument `context`.

    Attributes:
        attempt: number of this attempt, 1 on the first.
        task_result: the job's result object (of the Tasks API, where the job came through it).
    """

    def __init__(self, delivery: Any, task_result: Any, attendant: AttemptMonitor | None) -> None:
        self._delivery = delivery
        self._attendant = attendant
        self.task_result = task_result

    @property
    def attempt(self) -> int:
        return self._delivery.number

    @property
    def job_id(self) -> str:
        return self._delivery.id

    @property
    def failures(self) -> int:
        """How many attempts of this job have failed before."""
        return self._delivery.failures

    @property
    def max_attempts(self) -> int:
        return self._delivery.max_attempts

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled: the task should end soon, by raising
        `queue_app.exceptions.Cancelled`. Cheap, so that a long loop can ask in each round."""
        return self._attendant is not None and self._attendant.is_cancelled(self._delivery)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how far the job is. Cheap: the record is written once a second and at the end.

        Args:
            done: how much is done, 0 or more.
            total: of how much; None when unknown.
            note: a short text for people, at most 200 characters are kept.

        Raises:
            InvalidOption: `done` or `total` is not a number of 0 or more.
        """
        for name, value in (("done", done), ("total", total)):
            if name == "total" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                raise InvalidOption(f"progress({name}={value!r}): use a number of 0 or more.")
        if self._attendant is not None:
            self._attendant.progress(self._delivery, serialization.dump([done, total, str(note)[:200]]))
