"""PostgreSQL's text formats: values of COPY, and array literals.

Values are formatted here because that is several times cheaper than letting the driver adapt thousands of values one by
one. The formats: PostgreSQL manual, "COPY" (text format) and "Arrays" (array input syntax).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

#: NULL in COPY's text format.
NULL = r"\N"


def copy_value(value: Any) -> str:
    """A value of any column as COPY text."""
    if value is None:
        return NULL
    if isinstance(value, str):
        return copy_text(value)
    return value.isoformat() if isinstance(value, datetime) else f"{value}"


def copy_text(value: str) -> str:
    """A value as COPY text."""
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if value.isprintable():  # no tab, newline or carriage return
        return value
    return value.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def plain_array(values: list[str]) -> str:
    """An array literal of values that need no quotes."""
    return "{" + ",".join(values) + "}"


def text_array(values: list[str | None]) -> str:
    """An array literal of any text; an empty one when all are None, as unnest fills up with nulls."""
    if not any(values) and not any(v is not None for v in values):
        return "{}"
    quoted = [
        "NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values
    ]
    return "{" + ",".join(quoted) + "}"


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def timestamp(value: float) -> str:
    """Epoch seconds as a timestamptz in text, to the microsecond."""
    second, micros = divmod(round(value * 1_000_000), 1_000_000)
    return f"{_second(second)}.{micros:06d}+00"


def timestamp_or(value: float | None, null: str) -> str:
    """The same, or `null` for None."""
    return null if value is None else timestamp(value)
