"""Runs one delivery and returns its outcome. Uses no database and no Redis; the recorder records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from queue_app import conf, signals
from queue_app.domain import serialization
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome, cancelled, failed, succeeded
from queue_app.exceptions import Cancelled, InvalidArguments
from queue_app.tasks import sensitive
from queue_app.tasks.context import AttemptMonitor, JobContext
from queue_app.tasks.registry import Declared
from queue_app.worker.child.timeouts import Interrupts

#: Runs a coroutine function to its end within so many seconds; the last is the job's id.
AsyncRunner = Callable[[Callable[..., Any], list[Any], dict[str, Any], float | None, str], Any]


def soft_limit(declared: Declared, delivery: Delivery) -> float | None:
    """Seconds until SoftTimeout: the call's or queue's, else the task's, else the settings'."""
    if delivery.timeout is not None:
        return delivery.timeout
    return declared.timeout if declared.timeout is not None else conf.get().TIMEOUT


def hard_limit(declared: Declared, soft: float | None) -> float | None:
    """Seconds until the process is killed."""
    if declared.hard_timeout is not None:
        return max(declared.hard_timeout, soft or 0)
    return None if soft is None else soft + conf.get().HARD_TIMEOUT_GRACE


class Executor:
    """Runs deliveries in one child.

    Args:
        worker_id: named in results and signals.
        interrupts: how to interrupt synchronous code here.
        run_async: how to run coroutine functions here.
        monitor: receives progress, and knows which jobs were cancelled.
    """

    def __init__(
        self, worker_id: str, interrupts: Interrupts, run_async: AsyncRunner, monitor: AttemptMonitor
    ) -> None:
        self._worker_id = worker_id
        self._interrupts = interrupts
        self._run_async = run_async
        self._monitor = monitor
        self._results: Any = None
        self._task_signals: Any = None

    def execute(self, declared: Declared, delivery: Delivery, soft: float | None, started: float) -> Outcome:
        """Run one delivery. Never raises what the task raises.

        Args:
            soft: seconds until SoftTimeout; None: no limit.
            started: now, in epoch seconds.
        """
        task_result = None
        try:
            if delivery.backend:
                if self._results is None:
                    # Late, because they need a Tasks API, which a worker may do without.
                    from queue_app.tasks_api import results, task_signals

                    self._results, self._task_signals = results, task_signals
                task_result = self._results.of_delivery(delivery, self._worker_id, started)
                self._task_signals.send_started(task_result)
            if signals.attempt_started.receivers:
                signals.attempt_started.send_robust(sender=None, delivery=delivery, worker_id=self._worker_id)
            text = self._call(declared, delivery, task_result, soft)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return self.failed(declared, delivery, started, error, task_result)
        return succeeded(delivery, started, text, task_result)

    def _call(
        self, declared: Declared, delivery: Delivery, task_result: Any, soft: float | None
    ) -> str | None:
        args: Any = delivery.args
        if declared.takes_context:
            context = JobContext if task_result is None else self._results.TaskJobContext
            args = [context(delivery, task_result, self._monitor), *args]
        if declared.is_async:
            value = self._run_async(declared.func, args, delivery.kwargs, soft, delivery.id)
        else:
            self._interrupts.arm(delivery.id, soft)
            try:
                value = declared.func(*args, **delivery.kwargs)
            finally:
                self._interrupts.disarm(delivery.id)
        return None if value is None else _dump_result(value)

    def failed(
        self, declared: Declared, delivery: Delivery, started: float, error: BaseException, task_result: Any
    ) -> Outcome:
        """The outcome of an attempt that ended with this exception; `task_result` is that of the Tasks API, or None."""
        more: Any = {
            "task_result": task_result,
            "caller": __file__,
            "hide": sensitive.hider(declared.task, delivery.args, delivery.kwargs),
        }
        if isinstance(error, Cancelled) and self._monitor.is_cancelled(delivery):
            return cancelled(delivery, started, error, **more)
        return failed(declared.policy, delivery, started, error, **more)


def _dump_result(value: Any) -> str:
    try:
        text = serialization.dump(value, "the return value")
    except (InvalidArguments, RecursionError) as error:
        raise TypeError(str(error)) from None
    limit = conf.get().RESULT_LIMIT
    if len(text) * 4 > limit and len(text.encode()) > limit:
        raise ValueError(
            f"The return value is {len(text.encode()):,} bytes of JSON; RESULT_LIMIT is {limit:,}. Store it and return"
            " its id."
        )
    return text
