"""The client of `queue_app.task`: enqueue calls, and handles of jobs with the interface of Django's TaskResult."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from queue_app.domain import serialization
from queue_app.domain.states import FINAL, AttemptState, JobState
from queue_app.exceptions import JobDoesNotExist
from queue_app.lifecycle.state_now import get_job, state_now
from queue_app.models import Attempt, Job
from queue_app.models.sql import write_alias
from queue_app.models.sql.rows import NewJobs
from queue_app.tasks.producer import Call, produce_own

if TYPE_CHECKING:
    from queue_app.tasks.task import Task


def enqueue(task: Task, calls: Iterable[Call]) -> list[JobResult]:
    """Enqueue calls of a `queue_app.task`; `Task.enqueue` and `enqueue_many` come here."""
    jobs = produce_own(task, calls)
    return [JobResult.just_enqueued(jobs, index) for index in range(len(jobs))]


def get_result(job_id: Any, task: Task | None = None) -> JobResult:
    """The handle of a job enqueued by `queue_app.task`.

    Raises:
        JobDoesNotExist: there is none of this id, or it is not a job of `task`.
    """
    result = JobResult(get_job(job_id))
    if task is not None and result.task != task.module_path:
        raise JobDoesNotExist(f"Job {job_id} is one of {result.task}, not of {task.module_path}.")
    return result


class JobError:
    """A failed attempt: its exception's dotted path, message and traceback."""

    def __init__(self, exception_class_path: str, message: str, traceback: str) -> None:
        self.exception_class_path = exception_class_path
        self.message = message
        self.traceback = traceback

    def __repr__(self) -> str:
        return f"<JobError {self.exception_class_path}: {self.message}>"


class JobResult:
    """A handle of a job, as it was when read; `refresh()` reads again.

    Attributes:
        id: the job's id as text.
        task: dotted path of the task.
        status: a `JobState`.
        errors: one `JobError` for each failed attempt.
        worker_ids: one for each attempt.
    """

    def __init__(self, job: Job, attempts: list[Attempt] | None = None) -> None:
        self._set(job, attempts)

    @classmethod
    def just_enqueued(cls, jobs: NewJobs, index: int) -> JobResult:
        """The handle of a job that was enqueued just now, without a query."""
        self = cls.__new__(cls)
        self.id = jobs.ids[index]
        self.task = jobs.task
        self.queue_name = jobs.queue
        self.priority = jobs.priority
        self.run_after = jobs.run_after
        self.status = JobState(jobs.state)
        self.enqueued_at = jobs.enqueued_at
        self.started_at = self.last_attempted_at = self.finished_at = None
        self._payload, self._result = jobs.payloads[index], None
        self.errors, self.worker_ids = [], []
        self.progress = None
        return self

    def _set(self, job: Job, attempts: list[Attempt] | None) -> None:
        self.id = str(job.pk)
        self.task = job.task
        self.queue_name = job.queue
        self.priority = job.priority
        self.run_after: datetime | None = job.run_after
        self.status = state_now(job)
        self.enqueued_at: datetime = job.enqueued_at
        self.started_at: datetime | None = job.started_at
        self.last_attempted_at: datetime | None = job.last_attempted_at
        self.finished_at: datetime | None = job.finished_at
        self._payload = job.payload
        self._result = job.result
        self.progress: list[Any] | None = serialization.load(job.progress) if job.progress else None
        if attempts is None:
            attempts = list(job.attempts.using(write_alias()).order_by("number")) if job.attempt else []
        self.errors: list[JobError] = [
            JobError(a.error_class, a.error, a.traceback) for a in attempts if a.state in FAILED_ATTEMPTS
        ]
        self.worker_ids: list[str] = [str(a.worker_id or "") for a in attempts]
        if self.status is JobState.RUNNING and job.worker_id:
            self.worker_ids.append(str(job.worker_id))

    def __repr__(self) -> str:
        return f"<JobResult {self.id} {self.task} {self.status}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobResult) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def args(self) -> list[Any]:
        return serialization.load(self._payload)[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        return serialization.load(self._payload)[1]

    @property
    def attempts(self) -> int:
        """How many attempts have been made, the one under way included."""
        return len(self.worker_ids)

    @property
    def is_finished(self) -> bool:
        return self.status in FINAL

    @property
    def return_value(self) -> Any:
        """What the task returned.

        Raises:
            ValueError: it has not finished, or did not succeed.
        """
        if self.status == JobState.SUCCEEDED:
            return None if self._result is None else serialization.load(self._result)
        if self.is_finished:
            raise ValueError(f"The job has no return value: it {self.status}.")
        raise ValueError(f"The job has not finished yet: it is {self.status}.")

    def refresh(self) -> None:
        """Read the job again.

        Raises:
            JobDoesNotExist: it was pruned.
        """
        self._set(get_job(self.id), None)

    async def arefresh(self) -> None:
        """`refresh` for asynchronous code."""
        await sync_to_async(self.refresh)()


#: Attempts that count as an error of the task.
FAILED_ATTEMPTS = frozenset({AttemptState.FAILED, AttemptState.TIMED_OUT, AttemptState.LOST})
