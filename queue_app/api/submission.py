"""The body that submits a job. Each field has the same rule as in Python, and the response names all errors."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import Any

from django.utils.dateparse import parse_datetime
from rest_framework import serializers

from queue_app import clock, conf
from queue_app.api.bodies import StrictSerializer
from queue_app.api.fields import (
    PriorityField,
    StrictCharField,
    StrictDateTimeField,
    StrictDictField,
    StrictFloatField,
    StrictIntegerField,
    StrictListField,
)
from queue_app.domain import names, options, serialization
from queue_app.exceptions import InvalidArguments, InvalidOption, UnknownTask
from queue_app.tasks import registry

#: Field of the API → option of `Task.using`.
OPTIONS = {
    "queue": "queue_name",
    "priority": "priority",
    "run_after": "run_after",
    "max_attempts": "max_attempts",
    "timeout": "timeout",
}


def parse_run_after(value: Any) -> datetime | None:
    """A time of the API: ISO 8601 with a time zone, or a delay in seconds.

    Raises:
        ValidationError: it is neither.
        InvalidOption: it is too far away.
    """
    if not isinstance(value, str):
        return options.run_after(value)
    try:
        parsed = parse_datetime(value)
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise serializers.ValidationError(
            "Use an ISO 8601 time with its zone, such as 2030-01-31T08:00:00Z, or a delay in seconds."
        )
    options.run_after(parsed)
    return parsed.astimezone(UTC)


def find_task(name: Any) -> Any:
    """The task object of a dotted path.

    Raises:
        ValidationError: there is no such task here, or its jobs are not ours to run.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= 255:
        raise serializers.ValidationError(
            "The task is the dotted path of one, such as 'shop.tasks.send_mail'."
        )
    known = registry.autodiscover()
    try:
        task = registry.look_up(name).task
    except UnknownTask as error:
        raise serializers.ValidationError(f"{error}{conf.did_you_mean(name, known)}") from None
    if not registry.runs_here(registry.backend_of(task)):
        raise serializers.ValidationError(
            f"{name!r} runs on the backend {registry.alias_of(task)!r}, which is not this queue."
        )
    return task


def _positional(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidOption("Positional arguments are a list, such as [1, 2].")
    return value


def _keyword(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidOption('Keyword arguments are an object, such as {"x": 1}.')
    return value


def _max_attempts(value: Any) -> Any:
    options.whole("max_attempts", value)
    return value


def _timeout(value: Any) -> Any:
    options.seconds("timeout", value)
    return value


class JobSubmission(StrictSerializer):
    """A job to enqueue; options that are left out or null are the task's."""

    task = StrictCharField(rule=find_task, max_length=255, help_text="Dotted path of a task.")
    args = StrictListField(rule=_positional, required=False, help_text="Positional arguments.")
    kwargs = StrictDictField(rule=_keyword, required=False, help_text="Keyword arguments.")
    queue = StrictCharField(
        rule=names.check_queue,
        max_length=64,
        required=False,
        allow_null=True,
        help_text=names.QUEUE_NAME_HELP,
    )
    priority = PriorityField()
    run_after = StrictDateTimeField(
        rule=parse_run_after,
        required=False,
        allow_null=True,
        help_text="An ISO 8601 time with its zone; or a number: a delay in seconds.",
    )
    max_attempts = StrictIntegerField(
        rule=_max_attempts,
        min_value=1,
        max_value=1000,
        required=False,
        allow_null=True,
        help_text="How many attempts may fail in all.",
    )
    timeout = StrictFloatField(
        rule=_timeout,
        min_value=0.01,
        max_value=clock.LONGEST,
        required=False,
        allow_null=True,
        help_text="Seconds that an attempt may take.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The task with its options, and arguments that fit it."""
        task, errors = attrs["task"], {}
        for name, option in OPTIONS.items():
            if (value := attrs.get(name)) is None:
                continue
            try:
                task = task.using(**{option: value})
            except TypeError:  # a Task of the standard, without our options
                errors[name] = ["Tasks that were declared for another backend do not take this."]
            except Exception as error:  # the backend's word: InvalidTask, or a rule of its own
                errors[name] = [str(error)]
        args, kwargs = attrs.get("args", []), attrs.get("kwargs", {})
        errors |= _argument_errors(task, args, kwargs)
        if errors:
            raise serializers.ValidationError(errors)
        return {"task": task, "args": args, "kwargs": kwargs}


def _argument_errors(task: Any, args: list[Any], kwargs: dict[str, Any]) -> dict[str, list[str]]:
    """What is wrong with the arguments, by field: a job that the function cannot take would only fail later."""
    limit = conf.get().PAYLOAD_LIMIT
    for name, call in (("args", (args, {})), ("kwargs", ([], kwargs)), ("kwargs", (args, kwargs))):
        try:
            serialization.dump_arguments(*call, limit)
        except InvalidArguments as error:
            return {name: [str(error)]}
    context = [None] if task.takes_context else []
    try:
        inspect.signature(task.func).bind(*context, *args, **kwargs)
    except TypeError as error:
        keyword = "keyword argument" in str(error) or "multiple values" in str(error)
        return {"kwargs" if keyword else "args": [f"{task.func.__name__}: {error}."]}
    return {}
