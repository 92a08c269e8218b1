"""A function run as a job by an executor, without a worker around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome
from queue_app.domain.retry import RetryPolicy
from queue_app.exceptions import SoftTimeout
from queue_app.tasks.registry import Declared
from queue_app.worker.child.executor import Executor
from tests.support.bodies import body

STEADY = RetryPolicy(base=10, factor=1, jitter="none")


class Sink:
    """Keeps the progress that tasks report."""

    def __init__(self, *, cancelled: bool = False) -> None:
        self.said: list[str] = []
        self.cancelled = cancelled

    def progress(self, delivery: Delivery, text: str) -> None:
        self.said.append(text)

    def is_cancelled(self, delivery: Delivery) -> bool:
        return self.cancelled


class Expired:
    """Interrupts of which the time is up at once."""

    def __init__(self) -> None:
        self.interrupted: set[str] = set()

    def arm(self, job_id: str, seconds: float | None) -> None:
        if seconds is not None:
            raise SoftTimeout(f"after {seconds}")

    def disarm(self, job_id: str) -> None:
        """Nothing was armed."""

    def cancel(self, job_id: str) -> None:
        """Nothing runs long enough."""


def delivery(payload: str = "[[],{}]", **fields: Any) -> Delivery:
    return Delivery(
        "mail", "some-id", body(payload, **({"task": "tests.some", "max_attempts": 3} | fields)), 0
    )


def declared(func: Callable[..., Any], **fields: Any) -> Declared:
    values = {
        "name": "tests.some",
        "task": None,
        "func": func,
        "is_async": asyncio.iscoroutinefunction(func),
        "takes_context": False,
        "timeout": None,
        "hard_timeout": None,
        "policy": STEADY,
    }
    return Declared(**(values | fields))


def run(
    func: Callable[..., Any],
    payload: str = "[[],{}]",
    soft: float | None = None,
    interrupts: Any = None,
    cancelled: bool = False,
    policy: Any = STEADY,
    takes_context: bool = False,
    **fields: Any,
) -> Outcome:
    """Run a function as a job and return the outcome."""

    def run_async(func: Any, args: Any, kwargs: Any, seconds: float | None, job_id: str) -> Any:
        return asyncio.run(asyncio.wait_for(func(*args, **kwargs), seconds))

    executor = Executor("worker-1", interrupts or Expired(), run_async, Sink(cancelled=cancelled))
    return executor.execute(
        declared(func, policy=policy, takes_context=takes_context), delivery(payload, **fields), soft, 1.7e9
    )


def raising(error: BaseException) -> Callable[[], None]:
    def task() -> None:
        raise error

    return task
