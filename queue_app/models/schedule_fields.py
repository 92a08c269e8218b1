"""What the fields of a schedule may hold."""

from __future__ import annotations

import json
import re
from typing import Any

from django.conf import settings
from django.db import models

from queue_app.exceptions import InvalidArguments, InvalidOption

_dotted_path = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+").fullmatch


class Missed(models.TextChoices):
    """What is done about ticks whose time passed while no process ticked."""

    SKIP = "skip", "Skip: none of them runs"
    ONCE = "once", "Once: one run stands for all of them"
    ALL = "all", "All: each of them runs"


def default_zone() -> str:
    """The project's time zone."""
    return settings.TIME_ZONE or "UTC"


def check_name(name: str) -> None:
    """Check a schedule's name.

    Raises:
        InvalidOption: it has no visible character, or invisible ones.
    """
    if not name.strip() or not name.isprintable():
        raise InvalidOption(f"name is {name!r}; use 1–100 characters that can be seen.")


def check_task(path: str) -> None:
    """Check the form of a task's dotted path. Only a worker can say whether the task exists; the job waits for one.

    Raises:
        InvalidOption: it is no dotted path.
    """
    if not _dotted_path(path):
        raise InvalidOption(
            f"task is {path!r}; use the dotted path of a task, such as 'shop.tasks.send_report'."
        )


def call_of(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments of a call, from JSON such as `[[1], {"x": 2}]`.

    Raises:
        InvalidArguments: it is not that.
    """
    try:
        args, kwargs = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        args, kwargs = None, None
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise InvalidArguments(
            "arguments is not JSON of a list and an object; use the positional and the keyword arguments, such as"
            ' [[1, "two"], {"x": 3}], or [[], {}] for none.'
        )
    return args, kwargs
