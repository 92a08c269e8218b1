"""Bounded searches: the newest rows that meet some conditions, without reading the history.

* An index may give just these rows in the order of their ids. Then the search is complete.
* Otherwise rows are looked at one by one, the newest first, but no more than `MAX_DENSE_ROWS` of them.
* If that does not fill a page, PostgreSQL is asked for older ones, in windows of time that grow. An index finds a few
  rows of each quickly. This ends when the page is full, the history ends, or a window holds more than a few.

`Found.searched_to` says where a search ended. The next search continues from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections, transaction
from django.db.models import QuerySet

from queue_app import clock
from queue_app.domain import ids
from queue_app.models.conditions import Conditions, conditions_of, replaced
from queue_app.models.indexes import EVERYTHING, INDEXES, Ordered, Quick

#: Most rows that one search looks at. Dense: the table in key order, dozens of rows on a disk page. Scattered: rows
#: from an index, each perhaps on a page of its own.
MAX_DENSE_ROWS = 20_000
MAX_SCATTERED_ROWS = 1_500
#: Most rows that are taken from one window.
MAX_WINDOW_ROWS = 200
#: Most difference between the time in the id of a job and its `enqueued_at`.
SKEW = timedelta(minutes=1)
#: How many times longer each window is than what was searched before.
WINDOW_GROWTH = 8

#: The last second that a time may have, with room for a skew.
_LATEST_SECOND = datetime(9999, 12, 30, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search.

    Attributes:
        rows: the rows found, newest first; to be read page by page.
        searched_to: the last key that was searched; None: the search is complete.
        pks: keys of the first rows, up to the limit of the search; None: they were not read.
        is_plain: whether the primary key's own order is enough to read them.
    """

    rows: QuerySet[Any]
    searched_to: Any = None
    pks: list[Any] | None = None
    is_plain: bool = False

    def first(self, limit: int) -> list[Any]:
        """Keys of the first `limit` rows."""
        return list(self.rows.values_list("pk", flat=True)[:limit]) if self.pks is None else self.pks[:limit]


def newest(rows: QuerySet[Any], limit: int, before: Any = None) -> Found:
    """Search for the newest rows.

    Args:
        rows: the rows to search.
        limit: rows of a page; the search looks further back until it has so many.
        before: search only below this key, such as `searched_to` of the previous search.
    """
    if before is not None:
        rows = rows.filter(pk__lt=before)
    wanted = conditions_of(rows)
    if rows.model not in INDEXES or wanted.chosen or rows.query.is_empty():
        return Found(rows.order_by("-pk"), is_plain=True)
    states = wanted.known.pop("state__in", None)
    if states is None:
        return _Search(rows, wanted).run(limit)
    parts = []
    for state in states:
        one = Conditions(wanted.key, False, wanted.known | {"state": state}, wanted.more)
        # In place of the list, not beside it: the planner would multiply the chances of both.
        parts.append(_Search(replaced(rows, "state__in", state=state), one).run(limit))
    return parts[0] if len(parts) == 1 else _merged(rows, parts, limit)


def oldest(rows: QuerySet[Any], above: Any) -> Found:
    """Search for the oldest rows: the same in the other direction.

    Args:
        rows: the rows to search.
        above: search only above this key.

    Returns:
        The rows, oldest first. `searched_to` is the highest key that was searched.
    """
    rows = rows.filter(pk__gt=above)
    wanted = conditions_of(rows)
    if rows.model not in INDEXES or wanted.chosen or rows.query.is_empty():
        return Found(rows.order_by("pk"), is_plain=True)
    states = wanted.known.get("state__in", ())
    if len(states) == 1:
        rows = replaced(rows, "state__in", state=states[0])
        wanted = conditions_of(rows)
    return _Search(rows, wanted).run_upwards()


def _merged(rows: QuerySet[Any], parts: list[Found], limit: int) -> Found:
    """One page from the searches for several states."""
    searched_to = max((part.searched_to for part in parts if part.searched_to is not None), default=None)
    pks: list[Any] = []
    for part in parts:
        pks += part.first(limit)
    pks = sorted((pk for pk in pks if searched_to is None or pk >= searched_to), reverse=True)
    if len(pks) >= limit:
        pks = pks[:limit]
        searched_to = pks[-1]
    return Found(rows.filter(pk__in=pks).order_by("-pk"), searched_to, pks)


class _Search:
    """One search.

    Args:
        rows: what is looked for.
        wanted: its conditions.
    """

    def __init__(self, rows: QuerySet[Any], wanted: Conditions) -> None:
        indexes = INDEXES[rows.model]
        fitting = [one for one in indexes.ordered if wanted.meet(one.lookups)]
        self._order: Ordered = max(fitting, key=lambda one: len(one.lookups), default=EVERYTHING)
        self._rows = self._order.newest_first(rows)
        self._all = rows.model._default_manager.using(rows.db).filter(wanted.key)
        self._wanted = wanted
        #: Those that PostgreSQL finds quickly.
        self._quick: list[Quick] = []
        if connections[rows.db].vendor == "postgresql":
            self._quick = [one for one in indexes.quick if wanted.meet(one.lookups)]
        #: Whether an index gives these rows and no others in the order of ids.
        self._is_complete = not wanted.more and set(wanted.known) == set(self._order.lookups)

    def run(self, limit: int) -> Found:
        if self._is_complete:
            return Found(self._rows, is_plain=not self._order.column)
        searched_to = self._scan_end()
        if searched_to is None:
            return Found(self._rows)
        walked = self._rows.filter(pk__gte=searched_to)
        with _disabling(self._rows.db, "seqscan", "bitmapscan"):
            pks = list(walked.values_list("pk", flat=True)[:limit])
        if len(pks) >= limit or not self._quick:
            return Found(walked, searched_to, pks)
        older, searched_to = self._further_back(searched_to, limit - len(pks))
        pks += older
        return Found(self._rows.filter(pk__in=pks), searched_to, pks)

    def run_upwards(self) -> Found:
        rows = self._rows.reverse()
        end = None if self._is_complete else self._scan_end(upwards=True)
        if end is not None:
            rows = rows.filter(pk__lte=end)
        return Found(rows, end, is_plain=self._is_complete and not self._order.column)

    def _scan_end(self, *, upwards: bool = False) -> Any:
        """The key at which a walk ends; None if the rows end before."""
        reach = MAX_DENSE_ROWS if self._order.dense else MAX_SCATTERED_ROWS
        among = self._order.newest_first(self._all.filter(self._wanted.part(self._order.lookups)))
        pks = (among.reverse() if upwards else among).values_list("pk", flat=True)
        with _disabling(self._rows.db, "seqscan", "bitmapscan"):
            return next(iter(pks[reach : reach + 1]), None)

    def _further_back(self, searched_to: Any, limit: int) -> tuple[list[Any], Any]:
        """The rows below `searched_to`, in windows: their keys, and the new searched_to."""
        first, last = self._edge_pk("-pk", searched_to), self._edge_pk("pk", searched_to)
        length = _number(first) - _number(searched_to)
        pks: list[Any] = []
        while searched_to is not None and len(pks) < limit:
            length *= WINDOW_GROWTH
            low = _key(_number(searched_to) - length, searched_to)
            few = self._window(None if low <= last else low, searched_to)
            if few is None:
                break
            if few:
                pks += self._rows.filter(pk__in=few).values_list("pk", flat=True)
            searched_to = None if low <= last else low
        return pks, searched_to

    def _edge_pk(self, order: str, otherwise: Any) -> Any:
        return next(iter(self._all.order_by(order).values_list("pk", flat=True)[:1]), otherwise)

    def _window(self, low: Any, high: Any) -> list[Any] | None:
        """Keys of the rows of a window that meet one of the quick conditions; None if there are too many for each."""
        for one in self._quick:
            rows = self._all.filter(one.implied, self._wanted.part(one.lookups), pk__lt=high)
            if one.time:
                rows = rows.filter(**{f"{one.time}__lt": _time(high) + SKEW})
            if low is not None:
                rows = rows.filter(pk__gte=low)
                if one.time:
                    rows = rows.filter(**{f"{one.time}__gte": _time(low) - SKEW})
            # Without these the planner, which thinks that a match comes soon, reads the table in the order of ids.
            with _disabling(self._rows.db, "seqscan", "indexscan", "indexonlyscan"):
                found = list(rows.order_by().values_list("pk", flat=True)[: MAX_WINDOW_ROWS + 1])
            if len(found) <= MAX_WINDOW_ROWS:
                return found
        return None


@contextmanager
def _disabling(using: str, *methods: str) -> Iterator[None]:
    """Have PostgreSQL do without these ways to read a table: its estimates cannot tell where in time rows lie."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        yield
        return
    with transaction.atomic(using=using), connection.cursor() as cursor:
        cursor.execute("; ".join(f"SET LOCAL enable_{method} = off" for method in methods))
        yield
        cursor.execute("; ".join(f"SET LOCAL enable_{method} TO DEFAULT" for method in methods))


def _number(pk: Any) -> int:
    return pk.int if isinstance(pk, UUID) else int(pk)


def _time(pk: UUID) -> datetime:
    return clock.from_seconds(min(ids.made_at(pk), _LATEST_SECOND))


def _key(number: int, like: Any) -> Any:
    number = max(0, number)
    return UUID(int=number) if isinstance(like, UUID) else number
