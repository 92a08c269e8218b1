"""Filters whose choices need no query. Django's own would read every value from a table of millions of rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from queue_app import clock
from queue_app.models.worker import WORKER_STATUSES, WorkerQuerySet
from queue_app.queries import selection


class InputFilter(admin.SimpleListFilter):
    """A filter with a box to type into.

    Attributes:
        lookup: the field lookup that the text is for.
    """

    template = "admin/queue_app/input_filter.html"
    lookup = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("", "")]  # Django hides a filter without choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        text = (self.value() or "").strip()
        return queryset.filter(**{self.lookup: text}) if text else queryset

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """What the template needs: the text, the other parameters to keep, and the address without this filter."""
        others = [(k, v) for k, v in changelist.params.items() if k not in (self.parameter_name, PAGE_VAR)]
        yield {
            "name": self.parameter_name,
            "value": self.value() or "",
            "others": others,
            "query_string": changelist.get_query_string(remove=[str(self.parameter_name)]),
        }


class TaskFilter(InputFilter):
    """By the whole path, which finds rows of any age; or by a prefix that ends in a dot or an asterisk."""

    title = "task (or the beginning of it and *)"
    parameter_name = "task"
    lookup = "task"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        text = (self.value() or "").strip()
        if text.endswith((".", "*")):
            return queryset.filter(task__startswith=text.removesuffix("*"))
        return super().queryset(request, queryset)


class QueueFilter(InputFilter):
    title = "queue"
    parameter_name = "queue"
    lookup = "queue"


class FingerprintFilter(InputFilter):
    title = "fingerprint"
    parameter_name = "fingerprint"
    lookup = "fingerprint"


class AgeFilter(admin.SimpleListFilter):
    """By age, through the primary key."""

    title = "age"
    parameter_name = "within"
    _hours = {"1h": 1, "24h": 24, "7d": 168, "30d": 720}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1h", "Past hour"), ("24h", "Past 24 hours"), ("7d", "Past 7 days"), ("30d", "Past 30 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        hours = self._hours.get(self.value() or "")
        if hours is None:
            return queryset
        return queryset.filter(selection.created_between(after=clock.now() - timedelta(hours=hours)))


class ReplayedFilter(admin.SimpleListFilter):
    """Open dead letters by default; replayed ones or all on request."""

    title = "replay"
    parameter_name = "replayed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Replayed"), ("any", "All")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "any":
            return queryset
        return queryset.filter(replayed_at__isnull=self.value() != "yes")

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        first, *others = super().choices(changelist)
        yield first | {"display": "Not replayed"}
        yield from others


class StatusFilter(admin.SimpleListFilter):
    """Workers by what their heartbeats and claims say."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(status, status.capitalize()) for status in WORKER_STATUSES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        rows, status = cast(WorkerQuerySet, queryset), self.value()
        return rows.with_status(status) if status in WORKER_STATUSES else rows
