"""The envelope: what of a job, apart from its arguments, travels between the record, Redis and a worker.

`Envelope` is the only list of these fields. Its order is that of a body's head:

    <priority>:<lane>|[task, number, failures, …, backend]

The scripts read what is before the `|`. Times are epoch seconds, exact to the microsecond, or null. The only `]` is the
end, so that a reader finds it without parsing. Fields at the end that have their default are left out: a plain job ends
with its backend, and a new field at the end costs nothing where it says nothing. A head with more fields than are known
here is one of a later release.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, get_args, get_type_hints

from queue_app.domain import serialization
from queue_app.exceptions import InvalidOption

#: The lane of jobs that share no limit with others.
LANE = "-"
#: Most bytes of a job's `meta`: it travels with the job, through Redis.
META_LIMIT = 2_048
#: A field that each row and each body says.
REQUIRED: Any = object()


class Kind(Enum):
    """How a value is stored: as it is, as a datetime (here: epoch seconds), or as the attempt before it."""

    PLAIN = "plain"
    TIME = "time"
    NEXT = "next"


class Field(NamedTuple):
    """One field.

    Attributes:
        name: of the envelope's attribute.
        column: of the job's row.
        default: the column's default; REQUIRED: there is none.
        type: of what is said, if it is not None.
    """

    name: str
    column: str
    kind: Kind
    default: Any
    type: type


def _field(kind: Kind = Kind.PLAIN, *, column: str | None = None, default: Any = REQUIRED) -> Any:
    return field(metadata={"kind": kind, "column": column, "default": default})


@dataclass(slots=True, eq=False)
class Envelope:
    """What of a job travels.

    Attributes:
        lane: jobs of one lane share its limit; without "|".
        number: the attempt that the next delivery is.
        enqueued_at, run_after, started_at: epoch seconds.
        timeout: seconds, None for the task's own.
        backend: alias in TASKS; empty for `queue_app.task`.
        suspect: its process died in an attempt before, and it may have been the cause: to be run alone in its process.
        meta: JSON text of an object, about the job and not for its task (see `dump_meta`); or None.
    """

    priority: int = _field()
    lane: str = _field(default=LANE)
    task: str = _field()
    number: int = _field(Kind.NEXT, column="attempt")
    failures: int = _field()
    deaths: int = _field()
    max_attempts: int = _field()
    enqueued_at: float = _field(Kind.TIME)
    run_after: float | None = _field(Kind.TIME)
    started_at: float | None = _field(Kind.TIME, default=None)
    timeout: float | None = _field()
    backend: str = _field()
    suspect: bool = _field(default=False)
    meta: str | None = _field(default=None)

    def read(self, head: str) -> None:
        """Take over what the head of a body says.

        Raises:
            ValueError: it is one of another release.
        """
        # By hand: this runs once for each job, and a call of __init__ with so many values takes half as long again.
        (
            self.priority,
            self.lane,
            self.task,
            self.number,
            self.failures,
            self.deaths,
            self.max_attempts,
            self.enqueued_at,
            self.run_after,
            self.started_at,
            self.timeout,
            self.backend,
            self.suspect,
            self.meta,
        ) = read_head(head)


def _type_of(hint: Any) -> type:
    return next(one for one in (get_args(hint) or (hint,)) if one is not type(None))


_hints = get_type_hints(Envelope)
FIELDS = tuple(
    Field(
        f.name,
        f.metadata["column"] or f.name,
        f.metadata["kind"],
        f.metadata["default"],
        _type_of(_hints[f.name]),
    )
    for f in fields(Envelope)
)
#: The columns, in the order of the fields.
COLUMNS = tuple(f.column for f in FIELDS)
#: The fields of the array: all but those before the `|`.
HEAD = FIELDS[2:]
#: How many fields of the array are always there.
LEAST = 1 + max(place for place, f in enumerate(HEAD) if f.default is REQUIRED)
_DEFAULTS = [f.default for f in HEAD]

_columns_of = attrgetter(*COLUMNS)
_values_of = attrgetter(*(f.name for f in FIELDS))


def _next(number: int) -> int:
    return number + 1


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


_READ: dict[Kind, Callable[[Any], Any]] = {Kind.NEXT: _next, Kind.TIME: _seconds}
#: Place of a field whose column says it in another way → how it is read.
_CONVERTED = tuple((place, _READ[f.kind]) for place, f in enumerate(FIELDS) if f.kind in _READ)


def of_columns(values: Sequence[Any]) -> Envelope:
    """The envelope of a row, from its values of COLUMNS."""
    found = list(values)
    for place, read in _CONVERTED:
        found[place] = read(found[place])
    return Envelope(*found)


def of_row(row: Any) -> Envelope:
    """The envelope of a row, or of anything else that has its columns as attributes."""
    return of_columns(_columns_of(row))


def copy(envelope: Envelope) -> Envelope:
    """One that can be changed."""
    return Envelope(*_values_of(envelope))


def head_of(envelope: Envelope) -> str:
    """What stands in a body before the arguments."""
    priority, lane, *said = _values_of(envelope)
    while said[-1] == _DEFAULTS[len(said) - 1]:
        said.pop()
    return sealed(f"{priority}:{lane}|{serialization.dump_trusted(said)}")


def sealed(head: str) -> str:
    """A head whose texts may have a `]` in them, with these escaped."""
    if head.find("]", head.index("|")) == len(head) - 1:
        return head
    route, bar, array = head.partition("|")
    array = serialization.dump_trusted(json.loads(array))
    return route + bar + array[:-1].replace("]", "\\u005d") + "]"


@lru_cache(maxsize=1_000)
def read_head(head: str) -> tuple[Any, ...]:
    """The values of the fields, in their order. Kept: jobs that were enqueued together have the same head.

    Raises:
        ValueError: it is one of another release.
    """
    route, _, array = head.partition("|")
    priority, _, lane = route.partition(":")
    said = json.loads(array)
    if not LEAST <= len(said) <= len(HEAD) or not _is_canonical(said):
        raise ValueError("a body of another release")
    return (int(priority), lane, *said, *_DEFAULTS[len(said) :])


def _is_canonical(said: list[Any]) -> bool:
    """Whether what may be left out is said as this release says it."""
    more = zip(said[LEAST:], HEAD[LEAST:], strict=False)
    return said[-1] != _DEFAULTS[len(said) - 1] and all(
        type(value) is f.type or value is f.default for value, f in more
    )


def dump_meta(meta: Mapping[str, Any] | None) -> str | None:
    """What a job carries about itself, such as a trace context or who asked for it, as text.

    Raises:
        InvalidOption: no mapping, not JSON, or more than META_LIMIT bytes.
    """
    if not meta:
        return None
    if not isinstance(meta, Mapping):
        raise InvalidOption(f"meta is {meta!r}; use a dict.")
    try:
        text = serialization.dump(dict(meta), "meta")
    except ValueError as error:
        raise InvalidOption(str(error)) from None
    size = len(text.encode())
    if size > META_LIMIT:
        raise InvalidOption(
            f"meta is {size:,} bytes of JSON; at most {META_LIMIT:,} travel with a job. Store the data, and put its id"
            " into meta or into the arguments."
        )
    return text
