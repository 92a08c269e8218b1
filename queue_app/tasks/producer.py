"""Calls of a task become rows, in one place for all callers.

produce        calls → rows; all others end here
produce_own    for tasks of `queue_app.task`
submit         for callers that have either kind of task (API, schedules): its backend calls `produce` too
submit_kept    for schedules whose task has not been imported here
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from django.conf import settings as django_settings

from queue_app import conf
from queue_app.domain import serialization
from queue_app.domain.envelope import dump_meta
from queue_app.domain.task_options import TaskOptions
from queue_app.exceptions import InvalidArguments
from queue_app.lifecycle.enqueue import Request, enqueue
from queue_app.models.sql.rows import NewJobs
from queue_app.tasks import registry

#: Arguments of one call: `(args, kwargs)`.
Call = tuple[Iterable[Any], dict[str, Any]]
#: The same as JSON text, and as the values that come out of it.
Normal = tuple[str, list[Any], dict[str, Any]]
#: What a job carries about itself (see `dump_meta`).
Meta = Mapping[str, Any] | None


def produce(
    request: Request, calls: Iterable[Call], meanwhile: Callable[[NewJobs, list[Normal]], None] | None = None
) -> NewJobs:
    """Write the calls as jobs, in the caller's transaction; they are pushed when it commits.

    Args:
        meanwhile: called with rows and arguments while the database writes.

    Returns:
        The rows, in the order of the calls.

    Raises:
        InvalidArguments: names the call and the value's path; nothing was written.
    """
    normal = normal_calls(calls)
    payloads = [text for text, _, _ in normal]
    if meanwhile is None:
        return enqueue(request, payloads)
    then = meanwhile
    return enqueue(request, payloads, lambda jobs: then(jobs, normal))


def produce_own(task: Any, calls: Iterable[Call], meta: Meta = None) -> NewJobs:
    """`produce` for a task of `queue_app.task`.

    Raises:
        InvalidTaskDefinition: workers would not import its module.
        InvalidOption: see `dump_meta`.
    """
    registry.check_importable(task.module_path)
    return produce(request_of(task, meta=meta), calls)


def submit(task: Any, calls: Iterable[Call], meta: Meta = None) -> list[str]:
    """Enqueue calls of a task of either kind; those of the Tasks API with its signals.

    Returns:
        The ids of the jobs.

    Raises:
        Exception: of the task's backend, if it refuses the call.
    """
    backend = registry.backend_of(task)
    if backend is None:
        return produce_own(task, calls, meta).ids
    more = {} if meta is None else {"meta": meta}  # a backend made from ours may not take it
    return [result.id for result in backend.enqueue_many(task, calls, **more)]


def submit_kept(
    options: TaskOptions, calls: Iterable[Call], run_after: datetime | None, meta: Meta = None
) -> list[str]:
    """Enqueue calls of a task of which only the options are known. No signals of the Tasks API are sent: its results
    have the task itself.

    Returns:
        The ids of the jobs.
    """
    alias = options.backend
    said = getattr(django_settings, "TASKS", {}).get(alias, {}).get("OPTIONS") if alias else None
    attempts, timeout = _fallbacks(alias, said)
    request = Request(
        task=options.task,
        queue=options.queue,
        priority=options.priority,
        run_after=run_after,
        backend=alias,
        max_attempts=options.max_attempts,
        timeout=options.timeout,
        fallback_attempts=attempts,
        fallback_timeout=timeout,
        meta=None if meta is None else dump_meta(meta),
    )
    return produce(request, calls).ids


def request_of(
    task: Any, alias: str = "", said: Mapping[str, Any] | None = None, *, meta: Meta = None
) -> Request:
    """The request that a task object's options make.

    Args:
        alias: of the backend in TASKS that they come through; empty for a task of `queue_app.task`.
        said: the OPTIONS of that backend.
    """
    attempts, timeout = _fallbacks(alias, said)
    return Request(
        task=task.module_path,
        queue=task.queue_name,
        priority=int(task.priority),
        run_after=task.run_after,
        backend=alias,
        # A plain Task of the standard has none of our options.
        max_attempts=getattr(task, "max_attempts", None),
        timeout=getattr(task, "timeout", None),
        fallback_attempts=attempts,
        fallback_timeout=timeout,
        meta=None if meta is None else dump_meta(meta),
    )


def _fallbacks(alias: str, said: Mapping[str, Any] | None) -> tuple[int, float | None]:
    """Attempts and time limit (seconds), for tasks and queues without their own."""
    if not alias:
        return conf.get().MAX_ATTEMPTS, None
    options = said or {}
    return options.get("max_attempts") or conf.get().TASKS_MAX_ATTEMPTS, options.get("timeout")


def normal_calls(calls: Iterable[Call]) -> list[Normal]:
    """The calls' arguments, checked.

    Raises:
        InvalidArguments: names the call and the value's path.
    """
    limit = conf.get().PAYLOAD_LIMIT
    made: list[Normal] = []
    for call in calls:
        try:
            args, kwargs = call
        except (TypeError, ValueError):
            raise _not_a_call(call, len(made)) from None
        if not isinstance(args, tuple | list) or not isinstance(kwargs, dict):
            raise _not_a_call(call, len(made))
        made.append(serialization.normal_arguments(args, kwargs, limit))
    return made


def _not_a_call(call: object, index: int) -> InvalidArguments:
    return InvalidArguments(
        f"Call {index} is {call!r}; enqueue_many takes pairs of arguments such as ((1, 2), {{'x': 3}})."
    )
