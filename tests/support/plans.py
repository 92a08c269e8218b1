"""What the database does for the statements of a block: each is explained, and carried out, where it is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection

from queue_app.models import Job, summaries
from queue_app.queries import search


@dataclass(frozen=True, slots=True)
class Plan:
    """One statement, as PostgreSQL carried it out.

    Attributes:
        buffers: blocks of tables and indexes that it read, from memory or not.
        nodes: the steps of the plan, from the top, each with its table or index.
    """

    sql: str
    buffers: int
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.buffers:,} buffers: {' < '.join(self.nodes)}\n    {self.sql}"


@contextmanager
def explained() -> Iterator[list[Plan]]:
    """The plans of the SELECTs that this block sends. Each is carried out twice, under the settings of its moment."""
    found: list[Plan] = []

    def explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(("SELECT", "\nWITH RECURSIVE")) and "queue_app_" in sql:
            raw = context["connection"].connection.cursor()
            raw.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
            (text,) = raw.fetchone()
            top = (json.loads(text) if isinstance(text, str) else text)[0]["Plan"]
            buffers = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
            found.append(Plan(sql % tuple(map(repr, params or ())), buffers, tuple(_nodes(top))))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield found


def _nodes(plan: dict[str, Any]) -> Iterator[str]:
    place = plan.get("Index Name") or plan.get("Relation Name")
    yield f"{plan['Node Type']} {place}" if place else plan["Node Type"]
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def read_for(task: str) -> int:
    """Buffers that the search index has PostgreSQL read to find that there are few jobs of a task."""
    rows = Job.objects.filter(task=task).order_by().values_list("pk", flat=True)
    with explained() as plans, search._disabling("default", "seqscan", "indexscan", "indexonlyscan"):
        assert len(rows[: search.MAX_WINDOW_ROWS + 1]) <= search.MAX_WINDOW_ROWS
    (plan,) = plans
    assert f"Bitmap Index Scan {summaries.INDEX}" in plan.nodes, plan
    return plan.buffers
