"""Exceptions as text that every store can keep."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

#: Characters kept of an attempt's traceback (its end) and message.
TRACEBACK_LIMIT = 32_768
MESSAGE_LIMIT = 4_096

#: Masks a text. It gets the whole text: in one that is cut already, a value may have lost its end.
Hide = Callable[[str], str]


def class_path(error: BaseException) -> str:
    """The dotted path of an exception's class."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def message(error: BaseException, hide: Hide | None = None) -> str:
    """The exception's text, masked by `hide`. An exception whose `__str__` fails must still be recorded."""
    try:
        text = str(error)
        return clean(hide(text) if hide else text, MESSAGE_LIMIT)
    except BaseException as broken:  # a task's own class: anything may come
        return f"(its text could not be made: {type(broken).__name__})"


def trace(error: BaseException, caller: str = "", hide: Hide | None = None) -> str:
    """The traceback as text, from the task on.

    Args:
        caller: the file that called the task. Its frames are left out.
        hide: masks the text.
    """
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename == caller:
        tb = tb.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, tb))
    except BaseException:
        text = f"{class_path(error)}: {message(error)}\n"
    if hide is not None:
        text = hide(text)
    return clean(text[-TRACEBACK_LIMIT:], TRACEBACK_LIMIT)


def log_error(
    logger: logging.Logger,
    error: BaseException,
    text: str,
    *values: Any,
    caller: str = "",
    hide: Hide | None = None,
) -> None:
    """Log an error with its traceback. Handlers would write the values in it, so a masked one is logged as text.

    Args:
        text, values: as `Logger.error` takes them.
        caller, hide: see `trace`.
    """
    if hide is None:
        logger.error(text, *values, exc_info=error)
    else:
        logger.error(text + "\n%s", *values, trace(error, caller, hide))


def clean(text: str, limit: int) -> str:
    """Text that every database can store: no U+0000, no lone surrogates, at most `limit` characters."""
    if "\x00" in text:
        text = text.replace("\x00", "\\x00")
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text[:limit]
