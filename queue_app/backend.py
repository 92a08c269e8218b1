"""`queue_app.backend.JobQueueBackend`: Django's own Tasks API on this queue.

No models and no Redis at import or construction: `@task` builds the backend before the app registry is ready.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.core import checks

from queue_app import conf
from queue_app.domain import options
from queue_app.domain.names import check_queue
from queue_app.exceptions import InvalidArguments, InvalidOption, InvalidTaskDefinition, JobDoesNotExist
from queue_app.tasks import registry, spec
from queue_app.tasks_api.compat import (
    BaseTaskBackend,
    InvalidTask,
    Task,
    TaskResultDoesNotExist,
    TaskResultStatus,
    signals,
)

#: What OPTIONS of a backend may hold: defaults for its tasks.
BACKEND_OPTIONS = ("max_attempts", "timeout")

_KEEP: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueTask(Task):  # type: ignore[misc]
    """Django's Task with our options. See `queue_app.tasks.task.Task` for what they mean."""

    max_attempts: int | None = None
    timeout: float | None = None
    hard_timeout: float | None = None
    backoff: Any = None
    atomic: bool = False
    sensitive: Any = ()

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: Any = None,
        backend: str | None = None,
        max_attempts: int | None = _KEEP,
        timeout: float | None = _KEEP,
    ) -> QueueTask:
        """A copy with these options. The standard ones keep their value for None; `run_after` may also be a delay,
        in seconds or as a timedelta."""
        changes: dict[str, Any] = {}
        if priority is not None:
            changes["priority"] = priority
        if queue_name is not None:
            changes["queue_name"] = queue_name
        if run_after is not None:
            delay = isinstance(run_after, timedelta | int | float) and not isinstance(run_after, bool)
            changes["run_after"] = options.run_after(run_after) if delay else run_after
        if backend is not None:
            changes["backend"] = backend
        for name, value in (("max_attempts", max_attempts), ("timeout", timeout)):
            if value is not _KEEP:
                changes[name] = value
        return dataclasses.replace(self, **changes)

    def enqueue_many(self, calls: Iterable[tuple[Iterable[Any], dict[str, Any]]]) -> list[Any]:
        """Enqueue many calls, each `(args, kwargs)`: one transaction, one Redis round trip.

        Returns:
            Their TaskResults, in the same order. If one call is invalid, none is enqueued.
        """
        return self.get_backend().enqueue_many(self, calls)

    async def aenqueue_many(self, calls: Iterable[tuple[Iterable[Any], dict[str, Any]]]) -> list[Any]:
        """`enqueue_many` for asynchronous code."""
        return await sync_to_async(self.enqueue_many, thread_sensitive=True)(calls)


class JobQueueBackend(BaseTaskBackend):  # type: ignore[misc]
    """The backend to name in TASKS. OPTIONS: `max_attempts`, `timeout` as defaults of its tasks."""

    #: How `registry` knows that jobs which come through it are ours to run.
    is_queue_app = True
    task_class = QueueTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        #: Tasks found valid, by identity; dropped with the backend when TASKS changes. USE_TZ is part of the check.
        self._valid: dict[int, tuple[Any, bool]] = {}

    def validate_task(self, task: Any) -> None:
        """The standard's rules, and ours for the options beyond it.

        Raises:
            InvalidTask: says what is wrong.
        """
        super().validate_task(task)
        try:
            check_queue(task.queue_name)
            options.run_after(task.run_after)
            spec.check(task)
        except InvalidOption as error:
            raise InvalidTask(str(error)) from None

    def _validate_once(self, task: Any) -> None:
        found = self._valid.get(id(task))
        if found is not None and found[0] is task and found[1] is django_settings.USE_TZ:
            return
        self.validate_task(task)
        try:
            registry.check_importable(task.module_path)
        except InvalidTaskDefinition as error:
            raise InvalidTask(str(error)) from None
        if len(self._valid) > 1_000:  # tasks made for one call, with a run_after of their own
            self._valid.clear()
        self._valid[id(task)] = (task, django_settings.USE_TZ)

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Enqueue one call. Inside a transaction the job exists, and runs, only if that commits."""
        return self.enqueue_many(task, [(args, kwargs)])[0]

    def enqueue_many(
        self,
        task: Any,
        calls: Iterable[tuple[Iterable[Any], dict[str, Any]]],
        *,
        meta: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Enqueue many calls of a task: one transaction, one Redis round trip.

        Args:
            meta: what their jobs carry about themselves (see domain/envelope.py).

        Raises:
            InvalidTask: the task's options do not fit these settings.
            TypeError, ValueError: arguments that are not JSON; names the value's path.
        """
        from queue_app.tasks import producer
        from queue_app.tasks_api import results

        self._validate_once(task)
        made: list[Any] = []
        ready = TaskResultStatus.READY

        def make(jobs: Any, normal: Any) -> None:
            made.extend(
                results.make(
                    task, job_id, ready, jobs.enqueued_at, None, None, None, args, kwargs, self.alias, [], []
                )
                for job_id, (_, args, kwargs) in zip(jobs.ids, normal, strict=True)
            )

        try:
            producer.produce(producer.request_of(task, self.alias, self.options, meta=meta), calls, make)
        except InvalidArguments as error:
            # The standard's exception for arguments that are not JSON is TypeError; ours is a ValueError already.
            raise _BothErrors(str(error)) from None
        sender, enqueued = type(self), signals().task_enqueued
        for result in made:
            enqueued.send(sender, task_result=result)
        return made

    def get_result(self, result_id: str) -> Any:
        """The result of a job that came through this backend.

        Raises:
            TaskResultDoesNotExist: there is none; also for anything that is not an id.
        """
        from queue_app.lifecycle.state_now import get_job
        from queue_app.tasks_api import results

        try:
            return results.of_row(get_job(result_id, backend=self.alias))
        except JobDoesNotExist as error:
            raise TaskResultDoesNotExist(str(error)) from None

    def check(self, **kwargs: Any) -> Iterable[checks.CheckMessage]:
        """System checks of this alias's settings; no store is asked."""
        yield from super().check(**kwargs)
        for name in self.options:
            if name not in BACKEND_OPTIONS:
                hint = conf.did_you_mean(str(name), BACKEND_OPTIONS)
                yield checks.Error(
                    f"TASKS[{self.alias!r}]['OPTIONS'] has the unknown option {name!r}.{hint}",
                    hint=f"It takes {', '.join(BACKEND_OPTIONS)}.",
                    id="queue_app.E002",
                )
        try:
            options.whole("max_attempts", self.options.get("max_attempts"))
            options.seconds("timeout", self.options.get("timeout"))
            for name in self.queues:
                check_queue(name)
        except InvalidOption as error:
            yield checks.Error(f"TASKS[{self.alias!r}]: {error}", id="queue_app.E003")


class _BothErrors(InvalidArguments, TypeError):
    """The arguments are not JSON."""


registry.accept(Task)
