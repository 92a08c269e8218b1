"""What the indexes of the history are good for; `search` goes by it. Whoever changes an index changes it here too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import connections
from django.db.models import Model, Q, QuerySet

from queue_app.domain.states import AttemptState, JobState
from queue_app.models.attempt import Attempt
from queue_app.models.conditions import Lookups, conditions_of, replaced
from queue_app.models.dead_letter import DeadLetter
from queue_app.models.job import Job

_ANY = None
_OPEN = frozenset({True})


@dataclass(frozen=True, slots=True)
class Ordered:
    """An index that gives the rows that meet some conditions in the order of ids.

    Attributes:
        column: its column before the id, if any; with a minus if it is read backwards for the newest rows.
        dense: whether so many rows meet them that dozens of these lie on a page of the table.
    """

    lookups: Lookups
    column: str = ""
    dense: bool = False

    def newest_first(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """The rows in this order. For PostgreSQL there is a range in place of the one value: else its planner, which
        thinks that rows with it are spread evenly over time, may walk along the ids and read all that lies between."""
        if not self.column or connections[rows.db].vendor != "postgresql":
            return rows.order_by("-pk")
        name = self.column.removeprefix("-")
        value = conditions_of(rows).known.get(name)
        if value is not None:
            rows = replaced(rows, name, **{f"{name}__gte": value, f"{name}__lte": value})
        return rows.order_by(self.column, "-pk")


@dataclass(frozen=True, slots=True)
class Quick:
    """Conditions whose rows PostgreSQL finds quickly if they are few, in any order.

    Attributes:
        implied: to be added, so that a partial index serves.
        time: a column with the time that the id has, within `search.SKEW`. The search index holds it in place of the
            id: else the planner would take that index for lists of ids, and read it once for each.
    """

    lookups: Lookups
    implied: Q = field(default_factory=Q)
    time: str = ""


@dataclass(frozen=True, slots=True)
class Indexes:
    """What the indexes of a model give: `ordered` beside the primary key's, and `quick`."""

    ordered: tuple[Ordered, ...]
    quick: tuple[Quick, ...] = ()


#: The primary key's.
EVERYTHING = Ordered({}, dense=True)
#: Queued jobs: queue by queue.
QUEUED = Ordered({"state": frozenset({JobState.QUEUED})}, "-queue")
RARE = Ordered({"state": frozenset(JobState) - {JobState.QUEUED, JobState.SUCCEEDED}}, "-state")

INDEXES: dict[type[Model], Indexes] = {
    Job: Indexes(
        ordered=(RARE, Ordered({"queue": _ANY, **QUEUED.lookups}, "-queue")),
        quick=(
            Quick({"task": _ANY}, time="enqueued_at"),
            Quick({"queue": _ANY}, time="enqueued_at"),
            Quick(QUEUED.lookups),
        ),
    ),
    Attempt: Indexes(
        ordered=(Ordered({"state": frozenset(AttemptState) - {AttemptState.SUCCEEDED}}, "-state"),),
        quick=(Quick({"error_class__startswith": _ANY}, implied=Q(error_class__gt="")),),
    ),
    DeadLetter: Indexes(
        ordered=(
            Ordered({"replayed_at__isnull": _OPEN, "task": _ANY}, "task"),
            Ordered({"replayed_at__isnull": _OPEN, "queue": _ANY}, "queue"),
            Ordered({"replayed_at__isnull": _OPEN, "fingerprint": _ANY}, "fingerprint"),
            Ordered({"replayed_at__isnull": _OPEN}, dense=True),
        ),
    ),
}
