"""Parameters for PostgreSQL in its binary formats, and a cursor that sends them as they are.

Thousands of values in one literal cost the server more to read than the rows cost to write, and the client more to
quote. The formats: `array_recv` and the types' `…recv` functions of PostgreSQL's source; numbers are big-endian.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct, pack
from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.adapt import Dumper
from psycopg.pq import Format

#: Type ids of PostgreSQL's catalogue, which are fixed.
_INT4, _TEXT, _TIMESTAMPTZ, _UUID = 23, 25, 1184, 2950
#: 2000-01-01 in microseconds after 1970: PostgreSQL counts from there.
_EPOCH = 946_684_800_000_000
_NULL = b"\xff\xff\xff\xff"  # the length −1
_SIXTEEN = b"\0\0\0\x10"


class Binary:
    """A parameter in binary format; its type is the one that the statement casts it to."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class _BinaryDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Binary) -> bytes:
        return obj.data


def server_cursor(connection: BaseDatabaseWrapper) -> Any:
    """A cursor of this connection whose parameters travel apart from the statement (Django's own cursors write them
    into it, unless OPTIONS has `server_side_binding`)."""
    connection.ensure_connection()
    raw = connection.connection
    raw.adapters.register_dumper(Binary, _BinaryDumper)
    made: Any = psycopg.Cursor(raw)
    return connection.make_debug_cursor(made) if connection.queries_logged else connection.make_cursor(made)


def uuids(values: list[str]) -> Binary:
    """`uuid[]` of ids as text."""
    return _array(
        _UUID, values, _SIXTEEN + _SIXTEEN.join([bytes.fromhex(v.replace("-", "")) for v in values])
    )


def integers(values: list[int]) -> Binary:
    """`int[]`."""
    return _array(_INT4, values, _interleaved("ii", 4, values))


def times(values: list[float | None]) -> Binary:
    """`timestamptz[]` of epoch seconds, to the microsecond."""
    if None not in values:
        return _array(
            _TIMESTAMPTZ,
            values,
            _interleaved("iq", 8, [round(v * 1e6) - _EPOCH for v in values if v is not None]),
        )
    parts = [_NULL if v is None else pack(">iq", 8, round(v * 1e6) - _EPOCH) for v in values]
    return _array(_TIMESTAMPTZ, values, b"".join(parts), nulls=True)


def texts(values: list[str | None]) -> Binary:
    """`text[]`; an empty one when all are null, as unnest fills up with nulls."""
    if values.count(None) == len(values):
        return Binary(pack(">iii", 0, 0, _TEXT))
    parts = []
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            data = value.encode()
            parts += (pack(">i", len(data)), data)
    return _array(_TEXT, values, b"".join(parts), nulls=True)


def _array(kind: int, values: list[Any], data: bytes, *, nulls: bool = False) -> Binary:
    return Binary(pack(">iiiii", 1, nulls, kind, len(values), 1) + data)


def _interleaved(layout: str, size: int, values: list[int]) -> bytes:
    flat = [size] * (2 * len(values))
    flat[1::2] = values
    return _struct(layout, len(values)).pack(*flat)


@lru_cache(maxsize=64)
def _struct(layout: str, count: int) -> Struct:
    return Struct(">" + layout * count)
