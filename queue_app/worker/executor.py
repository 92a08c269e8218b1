"""Run one delivery and say what came of it. Knows no database and no Redis; recording is the recorder's."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

from queue_app import clock, conf, retry, sensitive, serialization, signals
from queue_app.context import Attendant, JobContext
from queue_app.dispatch.body import Delivery
from queue_app.exceptions import (
    Cancelled,
    Discard,
    HardTimeout,
    InvalidArguments,
    Retry,
    Snooze,
    SoftTimeout,
)
from queue_app.lifecycle.outcome import Outcome
from queue_app.registry import Declared
from queue_app.states import AttemptState
from queue_app.worker.timeouts import Interrupts

logger = logging.getLogger(__name__)

#: Characters kept of an attempt's traceback (its end) and message.
TRACEBACK_LIMIT = 32_768
MESSAGE_LIMIT = 4_096

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
        attendant: takes progress, and knows who was cancelled.
    """

    def __init__(
        self, worker_id: str, interrupts: Interrupts, run_async: AsyncRunner, attendant: Attendant
    ) -> None:
        self._worker_id = worker_id
        self._interrupts = interrupts
        self._run_async = run_async
        self._attendant = attendant
        self._results: Any = None

    def execute(self, declared: Declared, delivery: Delivery, soft: float | None, started: float) -> Outcome:
        """Run one delivery. Never raises what the task raises.

        Args:
            soft: seconds until SoftTimeout; None: no limit.
            started: now, in epoch seconds.
        """
        carrier = None
        try:
            if delivery.backend:
                if self._results is None:
                    self._results = import_module("queue_app.results")  # needs a Tasks API: only for its jobs
                carrier = self._results.of_delivery(delivery, self._worker_id, started)
                self._results.send_started(carrier)
            if signals.attempt_started.receivers:
                signals.attempt_started.send_robust(sender=None, delivery=delivery, worker_id=self._worker_id)
            text = self._call(declared, delivery, carrier, soft)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return self.failed(declared, delivery, started, error, carrier)
        return Outcome(
            delivery, AttemptState.SUCCEEDED, started, clock.seconds(), result=text, carrier=carrier
        )

    def _call(self, declared: Declared, delivery: Delivery, carrier: Any, soft: float | None) -> str | None:
        args: Any = delivery.args
        if declared.takes_context:
            context = JobContext if carrier is None else self._results.TaskJobContext
            args = [context(delivery, carrier, self._attendant), *args]
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
        self, declared: Declared, delivery: Delivery, started: float, error: BaseException, carrier: Any
    ) -> Outcome:
        """The outcome of an attempt that ended with this exception; `carrier` is that of the Tasks API, or None."""
        now = clock.seconds()
        if isinstance(error, Cancelled) and self._attendant.is_cancelled(delivery):
            return cancelled(delivery, started, error, carrier=carrier)
        decision = decide(declared, delivery, error, now)
        if isinstance(error, Snooze):
            state = AttemptState.SNOOZED
        else:
            state = (
                AttemptState.TIMED_OUT
                if isinstance(error, SoftTimeout | HardTimeout)
                else AttemptState.FAILED
            )
        return Outcome(
            delivery,
            state,
            started,
            now,
            error_class=class_path(error),
            error=sensitive.hidden(message(error), declared.task, delivery.args, delivery.kwargs),
            traceback=""
            if state is AttemptState.SNOOZED
            else sensitive.hidden(trace(error), declared.task, delivery.args, delivery.kwargs),
            run_at=decision.run_at,
            counts=decision.counts,
            dead_reason=decision.reason,
            exception=error,
            carrier=carrier,
        )


def decide(declared: Declared | None, delivery: Delivery, error: BaseException, now: float) -> retry.Decision:
    """What follows a failed attempt; a task's own backoff function that fails is logged and replaced by the
    settings' policy."""
    arguments: dict[str, Any] = {
        "failures": delivery.failures,
        "max_attempts": delivery.max_attempts,
        "now": now,
    }
    try:
        return retry.decide(declared.policy if declared else None, error, **arguments)
    except Exception:
        logger.exception(
            "The backoff of %s failed for job %s; the default one is used.", delivery.task, delivery.id
        )
        plain = RuntimeError() if isinstance(error, Retry | Snooze | Discard) else error
        return retry.decide(None, plain, **arguments)


def timed_out(
    declared: Declared | None, delivery: Delivery, started: float | None, seconds: float
) -> Outcome:
    """The outcome of an attempt whose process was killed at its hard limit."""
    now = clock.seconds()
    error = HardTimeout(f"Killed after {seconds:.1f} s, its hard time limit.")
    decision = decide(declared, delivery, error, now)
    return Outcome(
        delivery,
        AttemptState.TIMED_OUT,
        started,
        now,
        error_class=class_path(error),
        error=str(error),
        run_at=decision.run_at,
        dead_reason=decision.reason,
    )


def cancelled(
    delivery: Delivery, started: float | None, error: BaseException, *, carrier: Any = None
) -> Outcome:
    """The outcome of an attempt that was interrupted, or killed, because its job was cancelled."""
    return Outcome(
        delivery,
        AttemptState.CANCELLED,
        started,
        clock.seconds(),
        error_class=class_path(error),
        error=message(error),
        traceback=trace(error) if error.__traceback__ else "",
        counts=False,
        exception=error,
        carrier=carrier,
    )


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


def class_path(error: BaseException) -> str:
    """The dotted path of an exception's class."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def message(error: BaseException) -> str:
    """The exception's text; an exception whose `__str__` fails must still be recorded."""
    try:
        return clean(str(error), MESSAGE_LIMIT)
    except BaseException as broken:  # a task's own class: anything may come
        return f"(its text could not be made: {type(broken).__name__})"


def trace(error: BaseException) -> str:
    """The traceback as text, from the task on: without the frames of this file."""
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename == __file__:
        tb = tb.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, tb))
    except BaseException:
        text = f"{class_path(error)}: {message(error)}\n"
    return clean(text[-TRACEBACK_LIMIT:], TRACEBACK_LIMIT)


def clean(text: str, limit: int) -> str:
    """Text that every database can store: no U+0000, no lone surrogates, at most `limit` characters."""
    if "\x00" in text:
        text = text.replace("\x00", "\\x00")
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text[:limit]
