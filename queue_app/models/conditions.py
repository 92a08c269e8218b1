"""What a queryset asks for, read from its conditions: so that a search knows which index has its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.expressions import Col
from django.db.models.sql.where import AND, WhereNode

#: Conditions by lookup (`state`, `task__startswith`), with the values for which they hold; None: any.
Lookups = dict[str, frozenset[Any] | None]


@dataclass(slots=True)
class Conditions:
    """What a queryset asks for.

    Attributes:
        key: its conditions on the primary key; `chosen` if these name the rows one by one.
        known: its other conditions, by lookup.
        more: whether there are others yet, such as alternatives.
    """

    key: Q = field(default_factory=Q)
    chosen: bool = False
    known: dict[str, Any] = field(default_factory=dict)
    more: bool = False

    def meet(self, lookups: Lookups) -> bool:
        """Whether they include all of these."""
        return all(
            name in self.known and (values is None or self.known[name] in values)
            for name, values in lookups.items()
        )

    def part(self, lookups: Lookups) -> Q:
        """Those of them that have these names."""
        return Q(**{name: self.known[name] for name in lookups})


def conditions_of(rows: QuerySet[Any]) -> Conditions:
    """The conditions of a queryset, as far as they can be told apart."""
    found = Conditions()
    for _, node, name in _conditions(rows):
        if not name:
            found.more = True
        elif node.lhs.target.primary_key:
            found.key &= Q(**{name: node.rhs})
            found.chosen |= node.lookup_name in ("exact", "in")
        elif found.known.setdefault(name, node.rhs) != node.rhs:
            found.more = True
    return found


def replaced(rows: QuerySet[Any], lookup: str, **conditions: Any) -> QuerySet[Any]:
    """The rows that meet these conditions in place of the one with this lookup; beside them, if they are several."""
    rows = rows.all()
    found = [(parent, node) for parent, node, name in _conditions(rows) if name == lookup]
    if all(node.rhs == found[0][1].rhs for _, node in found):
        for parent, node in found:
            parent.children.remove(node)
    return rows.filter(**conditions)


def _conditions(rows: QuerySet[Any]) -> Iterator[tuple[WhereNode, Any, str]]:
    """Each condition that all rows meet: the node that it is in, itself, and its lookup; no lookup unless it is one on
    a column of this table."""
    nodes = [rows.query.where]
    while nodes:
        parent = nodes.pop(0)
        children: list[Any] = parent.children
        for node in children:
            if isinstance(node, WhereNode) and node.connector == AND and not node.negated:
                nodes.append(node)
                continue
            column = getattr(node, "lhs", None)
            name = ""
            if isinstance(column, Col) and column.alias == rows.model._meta.db_table:
                name = f"{column.target.name}__{node.lookup_name}".removesuffix("__exact")
            yield parent, node, name
