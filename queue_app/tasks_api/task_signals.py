"""The signals of the Tasks API that a worker sends: `task_started` and `task_finished`. Importing this connects it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.core.signals import setting_changed

from queue_app import clock
from queue_app.domain import serialization
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome
from queue_app.domain.states import FINAL, AttemptState
from queue_app.exceptions import UnknownTask
from queue_app.signals import attempts_finished
from queue_app.tasks import registry
from queue_app.tasks_api.compat import (
    InvalidTask,
    InvalidTaskBackend,
    TaskError,
    TaskResultStatus,
    signals,
    task_backends,
)
from queue_app.tasks_api.results import of_delivery, set_field
from queue_app.tasks_api.task_objects import stand_in

SUCCEEDED = AttemptState.SUCCEEDED

_signals = signals()


@lru_cache(maxsize=64)
def sender_of(alias: str) -> type:
    """The class of the backend of this alias, which the standard uses as sender."""
    return type(task_backends[alias])


def send_started(result: Any) -> None:
    """Send `task_started`."""
    _signals.task_started.send_robust(sender_of(result.backend), task_result=result)


def on_attempts_finished(outcomes: list[Outcome], worker_id: str, **_: Any) -> None:
    """Send `task_finished` for committed final outcomes of jobs that came through the Tasks API.

    The keeper's outcomes, after a child's death or a hard time limit, come here as well. The keeper must not import the
    module of a task, because the import may be what the child died of. A stand-in takes the task's place then.
    """
    for outcome in outcomes:
        delivery = outcome.delivery
        if not delivery.backend or (outcome.state is not SUCCEEDED and outcome.job_state not in FINAL):
            continue
        if outcome.task_result is None:
            started = outcome.started_at or outcome.finished_at
            try:
                outcome.task_result = of_delivery(
                    delivery, worker_id, started, task=_without_import(delivery)
                )
            except (UnknownTask, InvalidTaskBackend, InvalidTask):
                continue  # no task of the Tasks API, or its backend is unknown here
        send_finished(outcome)


def _without_import(d: Delivery) -> Any:
    """A stand-in for a task whose module is not imported here; None if it is imported."""
    if registry.loaded_task(d.task) is not None:
        return None
    run_after = None if d.run_after is None else clock.from_seconds(d.run_after)
    why = f"The module of {d.task!r} has not been imported in this process."
    return stand_in(d.task, d.priority, d.queue, d.backend, run_after, why)


def send_finished(outcome: Outcome) -> None:
    """Send `task_finished`. For a failure it is sent inside an except block, because the standard's log receiver reads
    `sys.exc_info()`."""
    result = outcome.task_result
    set_field(result, "finished_at", clock.from_seconds(outcome.finished_at))
    if outcome.state is SUCCEEDED:
        set_field(result, "status", TaskResultStatus.SUCCESSFUL)
        value = None if outcome.result is None else serialization.load(outcome.result)
        set_field(result, "_return_value", value)
        _signals.task_finished.send_robust(sender_of(result.backend), task_result=result)
        return
    set_field(result, "status", TaskResultStatus.FAILED)
    result.errors.append(TaskError(exception_class_path=outcome.error_class, traceback=outcome.traceback))
    # The exception itself may repeat a sensitive argument; the result's errors have the masked text.
    if outcome.exception is None or bool(getattr(result.task, "sensitive", None)):
        _signals.task_finished.send_robust(sender_of(result.backend), task_result=result)
        return
    try:
        raise outcome.exception
    except BaseException:  # a task may raise anything
        _signals.task_finished.send_robust(sender_of(result.backend), task_result=result)


def _settings_changed(*, setting: str, **_: Any) -> None:
    if setting == "TASKS":
        sender_of.cache_clear()


setting_changed.connect(_settings_changed, dispatch_uid="queue_app.tasks_api.task_signals")
attempts_finished.connect(on_attempts_finished, dispatch_uid="queue_app.tasks_api.task_signals")
