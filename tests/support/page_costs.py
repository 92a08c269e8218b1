"""What a request costs, in SQL statements and round trips to Redis, and the tables that hold these numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import django
from django.db import connection
from django.test.utils import CaptureQueriesContext
from redis.connection import AbstractConnection

#: Rows of each kind that are added for the second measurement; for the first it is one.
MANY = 30
DATABASES = ("sqlite", "postgresql")


class Cost(NamedTuple):
    """What one request cost.

    Attributes:
        sql: statements, with BEGIN, COMMIT and savepoints.
        trips: times that something was sent to Redis; a pipeline is one.
    """

    sql: int
    trips: int


@contextmanager
def measured() -> Iterator[list[Cost]]:
    """Count what is done meanwhile in this thread; the list gets its cost at the end."""
    found: list[Cost] = []
    trips: list[None] = []
    send = AbstractConnection.send_packed_command

    def counted(self: Any, *args: Any, **kwargs: Any) -> None:
        trips.append(None)
        send(self, *args, **kwargs)

    with (
        CaptureQueriesContext(connection) as queries,
        patch.object(AbstractConnection, "send_packed_command", counted),
    ):
        yield found
    found.append(Cost(len(queries), len(trips)))


class Table:
    """A committed table of costs, one request a line, in the order of their names.

    Args:
        text: lines of `<statements on SQLite> <on PostgreSQL> <round trips> <name>`, and `# <remark>` where there is
            something to say. A request that costs more with `MANY` rows has a second line, `<name>, 30 rows`. A line
            `<name>, Django <version>` counts for that version instead of the one above it.

    Raises:
        AssertionError: the lines are not sorted, or one is there twice.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[str, str] = {}
        names = []
        for line in filter(None, (line.strip() for line in text.splitlines())):
            names.append(_name_of(line))
            name, of_version, version = names[-1].partition(", Django ")
            if not of_version or django.get_version().startswith(f"{version}."):
                self._lines[name] = line
        assert names == sorted(set(names)), (
            "The lines are not in the order of their names, or one is there twice."
        )

    @property
    def names(self) -> set[str]:
        """The requests that have a line."""
        return {name.removesuffix(_OF_MANY) for name in self._lines}

    def compare(self, few: Mapping[str, Cost], many: Mapping[str, Cost]) -> None:
        """Hold what requests cost, with one row and with `MANY`, against their lines.

        Raises:
            AssertionError: some cost more or less; with the lines that would be right.
        """
        wrong = [said for name in few if (said := self._difference(name, few[name], many[name]))]
        assert not wrong, (
            "These cost more or less than they did. If that is right, put the lines into the table, and say why in the"
            " commit (a ? is filled in by the run on the other database):\n" + "\n".join(wrong)
        )

    def _difference(self, name: str, few: Cost, many: Cost) -> str:
        found = {name: few} if few == many else {name: few, name + _OF_MANY: many}
        right = {key: self._line(key, cost) for key, cost in found.items()}
        # Both lines of it: the second one must go when the cost grows no longer.
        there = {key: line for key, line in self._lines.items() if key.removesuffix(_OF_MANY) == name}
        if {key: line.split()[:3] for key, line in there.items()} == {
            key: line.split()[:3] for key, line in right.items()
        }:
            return ""
        return "\n".join([*right.values(), "  instead of", *there.values()] if there else right.values())

    def _line(self, name: str, cost: Cost) -> str:
        """The line of a request, with a new number for this database and the old one for the other."""
        line = self._lines.get(name, f"? ? ? {name}")
        by_database = dict(zip(DATABASES, line.split(), strict=False)) | {connection.vendor: str(cost.sql)}
        numbers = "".join(f"{number:>4}" for number in (*by_database.values(), cost.trips))
        remark = line.partition("#")[2]
        return f"{numbers}  {_name_of(line)}" + (f"  #{remark}" if remark else "")


_OF_MANY = f", {MANY} rows"


def _name_of(line: str) -> str:
    return line.split(maxsplit=3)[3].partition("#")[0].strip()


def groups(names: Collection[str]) -> list[list[str]]:
    """The requests that can be measured with the same rows: all that only read, and each of the others alone."""
    reads = [name for name in names if name.endswith(" GET")]
    return [reads, *([name] for name in names if name not in reads)]
