"""A job as machines submit it: every field checked by the rule that Python callers get, every fault named."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import Any

from django.utils.dateparse import parse_datetime
from rest_framework import serializers

from queue_app import conf, names, options, registry, serialization
from queue_app.api.parsers import refuse_unknown
from queue_app.exceptions import InvalidArguments, InvalidOption, UnknownTask

#: Field of the API → option of `Task.using`.
OPTIONS = {
    "queue": "queue_name",
    "priority": "priority",
    "run_after": "run_after",
    "max_attempts": "max_attempts",
    "timeout": "timeout",
}
FIELDS = ("task", "args", "kwargs", *OPTIONS)


class Given(serializers.Field[Any, Any, Any, Any]):
    """A value as it was sent: the rules are those of `queue_app`, which convert nothing."""

    def to_internal_value(self, data: Any) -> Any:
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class JobSubmission(serializers.Serializer[Any]):
    """`{task, args, kwargs, queue, priority, run_after, max_attempts, timeout}`."""

    task = Given()
    args = Given(required=False)
    kwargs = Given(required=False)
    queue = Given(required=False, allow_null=True)
    priority = Given(required=False, allow_null=True)
    run_after = Given(required=False, allow_null=True)
    max_attempts = Given(required=False, allow_null=True)
    timeout = Given(required=False, allow_null=True)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            refuse_unknown(data, FIELDS)
        return super().to_internal_value(data)

    def validate_task(self, value: Any) -> Any:
        return task_named(value)

    def validate_args(self, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise serializers.ValidationError("Positional arguments are a list, such as [1, 2].")
        return value

    def validate_kwargs(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise serializers.ValidationError('Keyword arguments are an object, such as {"x": 1}.')
        return value

    def validate_queue(self, value: Any) -> Any:
        return None if value is None else _ask(names.check_queue, value)

    def validate_priority(self, value: Any) -> Any:
        return None if value is None else _ask(names.priority_of, value)

    def validate_run_after(self, value: Any) -> datetime | None:
        return moment(value) if isinstance(value, str) else _ask(options.run_after, value)

    def validate_max_attempts(self, value: Any) -> Any:
        _ask(options.whole, "max_attempts", value)
        return value

    def validate_timeout(self, value: Any) -> Any:
        _ask(options.seconds, "timeout", value)
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The task with its options, and arguments that fit it."""
        task, found = attrs["task"], {}
        for name, option in OPTIONS.items():
            if (value := attrs.get(name)) is None:
                continue
            try:
                task = task.using(**{option: value})
            except TypeError:  # a Task of the standard, without our options
                found[name] = ["Tasks that were declared for another backend do not take this."]
            except Exception as error:  # the backend's word: InvalidTask, or a rule of its own
                found[name] = [str(error)]
        args, kwargs = attrs.get("args", []), attrs.get("kwargs", {})
        found |= _wrong_arguments(task, args, kwargs)
        if found:
            raise serializers.ValidationError(found)
        return {"task": task, "args": args, "kwargs": kwargs}


def _ask(rule: Any, *values: Any) -> Any:
    try:
        return rule(*values)
    except InvalidOption as error:
        raise serializers.ValidationError(str(error)) from None


def moment(text: str) -> datetime:
    """A time of the API: ISO 8601 with a time zone.

    Raises:
        ValidationError: it is not, or too far away.
    """
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise serializers.ValidationError(
            "Use an ISO 8601 time with its zone, such as 2030-01-31T08:00:00Z, or a delay in seconds."
        )
    return _ask(options.run_after, found).astimezone(UTC)


def task_named(name: Any) -> Any:
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


def _wrong_arguments(task: Any, args: list[Any], kwargs: dict[str, Any]) -> dict[str, list[str]]:
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
