"""`queue_app.task`: declare a task on any supported Django, with or without a Tasks API.

The interface is that of Django's own `Task` (same fields, same methods), so that code moves between the two by
changing an import. The client is imported at the first call: a task may be declared before there are models.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, overload

from asgiref.sync import async_to_sync, sync_to_async

from queue_app.domain import options
from queue_app.domain.names import check_queue, priority_of
from queue_app.exceptions import InvalidTaskDefinition
from queue_app.tasks import registry, spec

if TYPE_CHECKING:
    from queue_app.tasks.handle import JobResult
    from queue_app.tasks.producer import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A function that can be enqueued. Made by `@task`; immutable.

    Attributes:
        func: the function, at module level.
        queue_name: where its jobs wait.
        priority: -100…100, or critical, high, normal, low; higher runs first.
        run_after: aware datetime (or, in `using`, a delay in seconds or a timedelta) before which it won't start.
        takes_context: pass a `JobContext` as the first argument, `context`.
        max_attempts: how many attempts may fail in all; None: the queue's or the settings' default.
        timeout: seconds until `SoftTimeout` is raised in the task; None: the queue's or the settings' default.
        hard_timeout: seconds until its process is killed; None: `timeout` plus HARD_TIMEOUT_GRACE.
        backoff: seconds, a dict, a `RetryPolicy`, or a function `(failures, exception) -> seconds | None`.
        atomic: run it in a transaction that commits together with the job's success (docs/atomic.md).
        sensitive: names of arguments whose values are kept out of the texts of errors, and of logs (docs/rights.md).
    """

    func: Callable[..., Any]
    queue_name: str | None = None
    priority: int = 0
    run_after: datetime | None = None
    takes_context: bool = False
    max_attempts: int | None = None
    timeout: float | None = None
    hard_timeout: float | None = None
    backoff: Any = None
    atomic: bool = False
    sensitive: Sequence[str] = ()

    def __post_init__(self) -> None:
        _check_function(self.func, self.takes_context)
        object.__setattr__(self, "priority", priority_of(self.priority))
        object.__setattr__(self, "run_after", options.run_after(self.run_after))
        object.__setattr__(self, "queue_name", check_queue(self.queue_name or "default"))
        spec.check(self)
        object.__setattr__(self, "sensitive", tuple(self.sensitive or ()))

    @property
    def name(self) -> str:
        """The function's name."""
        return self.func.__name__

    @property
    def module_path(self) -> str:
        """The dotted path by which workers find it."""
        return f"{self.func.__module__}.{self.func.__qualname__}"

    def using(
        self,
        *,
        queue_name: str | None = None,
        priority: int | str | None = None,
        run_after: datetime | timedelta | float | None = None,
        max_attempts: int | None = None,
        timeout: float | None = None,
    ) -> Task:
        """A copy with these options; None keeps what there is.

        Raises:
            InvalidOption: names the option and what it may be.
        """
        given = {
            "queue_name": queue_name,
            "priority": priority,
            "run_after": run_after,
            "max_attempts": max_attempts,
            "timeout": timeout,
        }
        return dataclasses.replace(self, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]

    def enqueue(self, *args: Any, **kwargs: Any) -> JobResult:
        """Enqueue a call. Inside `transaction.atomic()` the job exists, and runs, only if that commits.

        Returns:
            A handle with the job's id, status and, once it is there, return value.

        Raises:
            InvalidArguments: not JSON, or too large; names the value's path.
        """
        return self.enqueue_many([(args, kwargs)])[0]

    async def aenqueue(self, *args: Any, **kwargs: Any) -> JobResult:
        """`enqueue` for asynchronous code."""
        return await sync_to_async(self.enqueue)(*args, **kwargs)

    def enqueue_many(self, calls: Iterable[Call]) -> list[JobResult]:
        """Enqueue many calls: one transaction, one Redis round trip.

        Args:
            calls: `(args, kwargs)` of each call.

        Returns:
            Their handles, in the same order. If one call is invalid, none is enqueued.
        """
        from queue_app.tasks import handle  # late: it needs models

        return handle.enqueue(self, calls)

    async def aenqueue_many(self, calls: Iterable[Call]) -> list[JobResult]:
        """`enqueue_many` for asynchronous code."""
        return await sync_to_async(self.enqueue_many)(calls)

    def get_result(self, result_id: str) -> JobResult:
        """The handle of a job of this task.

        Raises:
            JobDoesNotExist: there is none of this id, or it is another task's.
        """
        from queue_app.tasks import handle  # late: it needs models

        return handle.get_result(result_id, self)

    async def aget_result(self, result_id: str) -> JobResult:
        """`get_result` for asynchronous code."""
        return await sync_to_async(self.get_result)(result_id)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function here and now."""
        if inspect.iscoroutinefunction(self.func):
            return async_to_sync(self.func)(*args, **kwargs)
        return self.func(*args, **kwargs)


def _check_function(func: Any, takes_context: bool) -> None:
    if not inspect.isfunction(func) or "<" in func.__qualname__ or "." in func.__qualname__:
        raise InvalidTaskDefinition(
            f"{getattr(func, '__qualname__', func)!r} cannot be a task: workers find tasks by their dotted path, so"
            " it must be a function at the top level of a module."
        )
    if func.__module__ == "__main__":
        raise InvalidTaskDefinition(
            f"{func.__qualname__!r} is defined in __main__, where workers cannot find it; move it to a module."
        )
    if takes_context:
        first = next(iter(inspect.signature(func).parameters), None)
        if first != "context":
            raise InvalidTaskDefinition(
                f"{func.__qualname__!r} has takes_context=True, so its first argument must be named 'context'."
            )


@overload
def task(func: Callable[..., Any], /) -> Task: ...
@overload
def task(**settings: Any) -> Callable[[Callable[..., Any]], Task]: ...
def task(
    func: Callable[..., Any] | None = None, /, **settings: Any
) -> Task | Callable[[Callable[..., Any]], Task]:
    """Declare a function as a task: `@task`, or `@task(queue_name="mail", max_attempts=5, timeout=30)`.

    Args:
        settings: the attributes of `Task` except `func` and `run_after`.

    Raises:
        InvalidOption, InvalidTaskDefinition: at import, where the mistake is.
    """
    known = ("queue_name", "priority", "takes_context", *spec.TASK_OPTIONS)
    options.unknown(settings, known, "@task")

    def wrap(function: Callable[..., Any]) -> Task:
        return Task(func=function, **settings)

    return wrap if func is None else wrap(func)


registry.accept(Task)
