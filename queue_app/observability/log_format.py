"""One record of a text log is one line. An error's text comes from outside: with a line break, and what looks like the
beginning of a record behind it, it could forge another record; with control characters, what a terminal shows."""

from __future__ import annotations

import copy
import logging
import re
from typing import Any

#: Control characters, separators of lines, marks that turn the direction of writing, halves of surrogate pairs.
_control = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

INDENT = "    "


def one_line(text: str) -> str:
    """The text with its control characters spelled out, as in `\\n`."""
    return _control.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class LineFormatter(logging.Formatter):
    """A formatter for LOGGING whose records are one line each; a traceback follows in lines that are indented."""

    def format(self, record: logging.LogRecord) -> str:
        record = copy.copy(record)
        record.exc_text = None  # what the formatter of another handler has made of it
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging names it
        return one_line(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    return "\n".join(INDENT + one_line(line) for line in text.splitlines())
