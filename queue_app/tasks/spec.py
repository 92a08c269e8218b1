"""Options of a task beyond the standard: `max_attempts`, `timeout`, `hard_timeout`, `backoff`, `atomic`,
`sensitive`.

Both kinds of task carry these fields: ours (`tasks.task.Task`) and that of the `django.tasks` backend. A plain
`django.tasks` Task, sent here by `.using(backend=…)`, has none of them, hence `getattr` with a default.
"""

from __future__ import annotations

import inspect
from typing import Any

from queue_app.domain import options
from queue_app.domain.retry import policy_from
from queue_app.exceptions import InvalidOption
from queue_app.tasks import sensitive

#: Options of a task beyond the standard ones.
TASK_OPTIONS = ("max_attempts", "timeout", "hard_timeout", "backoff", "atomic", "sensitive")


def check(task: Any) -> None:
    """Check a task's options.

    Raises:
        InvalidOption: names the option and what it may be.
    """
    options.whole("max_attempts", getattr(task, "max_attempts", None))
    options.seconds("timeout", getattr(task, "timeout", None))
    options.seconds("hard_timeout", getattr(task, "hard_timeout", None))
    soft, hard = getattr(task, "timeout", None), getattr(task, "hard_timeout", None)
    if soft is not None and hard is not None and hard < soft:
        raise InvalidOption(f"hard_timeout is {hard} s, which is before the timeout of {soft} s.")
    policy_from(getattr(task, "backoff", None))
    atomic(getattr(task, "atomic", False), getattr(task, "func", None))
    if names := getattr(task, "sensitive", ()):
        sensitive.check(names, task.func, task.takes_context)


def atomic(value: Any, func: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidOption(f"atomic is {value!r}; use True or False.")
    if value and inspect.iscoroutinefunction(func):
        raise InvalidOption(
            f"{func.__qualname__!r} is atomic=True and a coroutine function; a transaction belongs to one thread, so"
            " write it as a plain function (def). It may call async code with asgiref's async_to_sync."
        )
