"""What the value of a setting may be: a kind, bounds, and the shape of those that are lists and dicts."""

from __future__ import annotations

import re
from dataclasses import Field
from math import isfinite
from typing import Any

from django.core.exceptions import ImproperlyConfigured

_is_name = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch

#: Task → `succeeded`, `failed` → seconds.
Retentions = dict[str, dict[str, float | None]]


def check(spec: Field[Any], value: Any) -> Any:
    """The value of a setting, as it is kept.

    Args:
        spec: the setting's field of `conf.Settings`; its type says what is right, its metadata between which bounds.

    Raises:
        ImproperlyConfigured: names the setting, the value and what is right.
    """
    name, kinds = spec.name, str(spec.type)
    if value is None and "None" in kinds:
        return None
    if "Retentions" in kinds:
        return _check_retentions(name, value)
    if kinds.startswith("dict"):
        return _check_shards(name, value)
    if kinds.startswith("tuple"):
        return _check_modules(name, value)
    if "str" in kinds:
        if not isinstance(value, str):
            shown = type(value).__name__ if name == "REDIS_URL" else repr(value)  # it may hold a password
            raise ImproperlyConfigured(f"QUEUE_APP[{name!r}] must be a string, not {shown}.")
        return value
    if kinds == "bool":
        if not isinstance(value, bool):
            raise ImproperlyConfigured(f"QUEUE_APP[{name!r}] must be True or False, not {value!r}.")
        return value
    wanted = "a whole number" if kinds.startswith("int") else "a number"
    kind = int if kinds.startswith("int") else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not isfinite(value):
        raise ImproperlyConfigured(f"QUEUE_APP[{name!r}] must be {wanted}, not {value!r}.")
    least, most = spec.metadata["least"], spec.metadata["most"]
    if least is not None and value < least:
        raise ImproperlyConfigured(f"QUEUE_APP[{name!r}] is {value!r}; the least is {least}.")
    if most is not None and value > most:
        raise ImproperlyConfigured(f"QUEUE_APP[{name!r}] is {value!r}; the most is {most}.")
    return value if kinds.startswith("int") else float(value)


def _check_shards(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ImproperlyConfigured(f"QUEUE_APP[{name!r}] must be a dict, not {value!r}.")
    for pattern, shard in value.items():
        if not isinstance(pattern, str) or not pattern or not isinstance(shard, str) or not _is_name(shard):
            raise ImproperlyConfigured(
                f"QUEUE_APP[{name!r}][{pattern!r}] is {shard!r}; use a queue or a pattern such as 'mail*', and a shard"
                " of letters, digits, '_' and '-'."
            )
    return value


def _check_modules(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ImproperlyConfigured(f"QUEUE_APP[{name!r}] must be a list of modules, not {value!r}.")
    for module in value:
        if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
            raise ImproperlyConfigured(
                f"QUEUE_APP[{name!r}] has {module!r}; use the dotted name of a module or package, such as 'shop.jobs'."
            )
    return tuple(value)


def _check_retentions(name: str, value: Any) -> Retentions:
    if not isinstance(value, dict):
        raise ImproperlyConfigured(f"QUEUE_APP[{name!r}] must be a dict by task, not {value!r}.")
    for task, keep in value.items():
        where = f"QUEUE_APP[{name!r}][{task!r}]"
        if (
            not isinstance(task, str)
            or not isinstance(keep, dict)
            or not keep.keys() <= {"succeeded", "failed"}
        ):
            raise ImproperlyConfigured(
                f"{where} is {keep!r}; use the dotted path of a task, and a dict such as"
                " {'succeeded': 3600, 'failed': None}."
            )
        for word, seconds in keep.items():
            number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
            if seconds is not None and not (number and isfinite(seconds) and seconds >= 0):
                raise ImproperlyConfigured(
                    f"{where}[{word!r}] is {seconds!r}; use seconds, or None for ever."
                )
    return value
