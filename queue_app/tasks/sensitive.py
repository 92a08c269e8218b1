"""Sensitive arguments of tasks: their values are kept out of the texts of errors, and so out of logs."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from queue_app import conf
from queue_app.domain.masking import LEAST
from queue_app.exceptions import InvalidOption

#: In place of a value.
MASK = "•••"


def check(names: Any, func: Callable[..., Any], takes_context: bool = False) -> None:
    """Check the names of a task's sensitive arguments.

    Args:
        takes_context: whether the first parameter is the context, which is no argument.

    Raises:
        InvalidOption: one is no argument of the function; names the one that was probably meant.
    """
    if not names:
        return
    if not isinstance(names, list | tuple | set | frozenset) or not all(isinstance(n, str) for n in names):
        raise InvalidOption(f"sensitive is {names!r}; use a list of names of arguments, such as ['card'].")
    parameters = list(inspect.signature(func).parameters.values())[takes_context:]
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return  # any name may be given
    known = [one.name for one in parameters]
    for name in names:
        if name not in known:
            hint = conf.did_you_mean(name, known)
            takes = ", ".join(known) or "none"
            raise InvalidOption(
                f"sensitive has {name!r}, which is no argument of {func.__qualname__!r}.{hint} It takes {takes}."
            )


def hider(task: Any, args: Any, kwargs: Any) -> Callable[[str], str] | None:
    """What masks a text of one call, see `hidden`; None for a task that has no sensitive arguments."""
    if not getattr(task, "sensitive", ()):
        return None
    return lambda text: hidden(text, task, args, kwargs)


def hidden(text: str, task: Any, args: Any, kwargs: Any) -> str:
    """A text with `•••` for what it repeats of the sensitive arguments of a call, given by position or by keyword.

    Args:
        task: the task; one without `sensitive` has no such arguments.
    """
    names = getattr(task, "sensitive", ())
    if not names or not text:
        return text
    values = _values(names, task, args, kwargs)
    words = {word for value in values for leaf in _leaves(value) for word in _spellings(leaf)}
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= LEAST:
            text = text.replace(word, MASK)
        else:  # a short one is a part of many words
            text = re.sub(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", MASK, text)
    return text


def _values(names: Any, task: Any, args: Any, kwargs: Any) -> Iterator[Any]:
    parameters = list(inspect.signature(task.func).parameters.values())[bool(task.takes_context) :]
    rest = list(args)
    for one in parameters:
        if one.kind is one.VAR_POSITIONAL:
            if one.name in names:
                yield rest
            rest = []
        elif one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) and rest:
            value = rest.pop(0)
            if one.name in names:
                yield value
        elif one.kind is one.VAR_KEYWORD and one.name in names:
            yield kwargs
    yield from (value for name, value in kwargs.items() if name in names)


def _leaves(value: Any) -> Iterator[Any]:
    todo = [value]
    while todo:  # no recursion: it may be nested deeply
        found = todo.pop()
        if isinstance(found, dict):
            todo += (*found.keys(), *found.values())
        elif isinstance(found, list | tuple):
            todo += found
        elif found is not None and not isinstance(found, bool) and found != "":
            yield found


def _spellings(value: Any) -> set[str]:
    """A value as messages may spell it."""
    if not isinstance(value, str):
        return {str(value)}
    found = {value, repr(value)[1:-1]}
    found |= {json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    return {one for one in found if one.strip()}
