"""Filters of the lists. An unknown parameter is an error: ignoring it would return the whole list."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import django_filters
from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.request import Request

from queue_app.api.parsers import refuse_unknown
from queue_app.domain.states import DeadReason, JobState
from queue_app.models import DeadLetter, Job, Schedule, Worker
from queue_app.models.worker import WORKER_STATUSES, WorkerQuerySet
from queue_app.queries import selection


class StrictFilterBackend(DjangoFilterBackend):  # type: ignore[misc]
    """django-filter, refusing unknown parameters."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        paging = ("cursor", "page_size")
        refuse_unknown(request.query_params, (*view.filterset_class.base_filters, *paging))
        return super().filter_queryset(request, queryset, view)


class _CreatedFilterSet(django_filters.FilterSet):  # type: ignore[misc]
    """By the time that an id holds: ranges of the primary key."""

    created_after = django_filters.IsoDateTimeFilter(method="by_created_after")
    created_before = django_filters.IsoDateTimeFilter(method="by_created_before")

    def by_created_after(self, rows: QuerySet[Any], name: str, value: datetime) -> QuerySet[Any]:
        return rows.filter(selection.created_between(after=value))

    def by_created_before(self, rows: QuerySet[Any], name: str, value: datetime) -> QuerySet[Any]:
        return rows.filter(selection.created_between(before=value))


class JobFilter(_CreatedFilterSet):
    """`state` may be given several times."""

    state = django_filters.MultipleChoiceFilter(choices=JobState.choices, method="by_state")
    queue = django_filters.CharFilter(max_length=64)
    task = django_filters.CharFilter(max_length=255)
    backend = django_filters.CharFilter(max_length=64)

    class Meta:
        model = Job
        fields: list[str] = []

    def by_state(self, rows: QuerySet[Job], name: str, value: list[str]) -> QuerySet[Job]:
        # Not alternatives, as the filter would have it: `queries.search` takes the states one by one.
        return rows.filter(state__in=value)


class DeadLetterFilter(_CreatedFilterSet):
    """The open ones, unless `replayed` says otherwise."""

    task = django_filters.CharFilter(max_length=255)
    queue = django_filters.CharFilter(max_length=64)
    # distinct would sort the whole table; this column cannot give a row twice
    reason = django_filters.MultipleChoiceFilter(choices=DeadReason.choices, distinct=False)
    fingerprint = django_filters.CharFilter(max_length=12)
    replayed = django_filters.ChoiceFilter(
        choices=[("no", "no"), ("yes", "yes"), ("any", "any")], method="by_replay"
    )

    class Meta:
        model = DeadLetter
        fields: list[str] = []

    def filter_queryset(self, queryset: QuerySet[DeadLetter]) -> QuerySet[DeadLetter]:
        rows = super().filter_queryset(queryset)
        return rows if self.form.cleaned_data.get("replayed") else rows.filter(replayed_at__isnull=True)

    def by_replay(self, rows: QuerySet[DeadLetter], name: str, value: str) -> QuerySet[DeadLetter]:
        return rows if value == "any" else rows.filter(replayed_at__isnull=value == "no")


class ScheduleFilter(django_filters.FilterSet):  # type: ignore[misc]
    name = django_filters.CharFilter(max_length=100)
    task = django_filters.CharFilter(max_length=255)
    paused = django_filters.ChoiceFilter(choices=[("true", "true"), ("false", "false")], method="by_pause")

    class Meta:
        model = Schedule
        fields: list[str] = []

    def by_pause(self, rows: QuerySet[Schedule], name: str, value: str) -> QuerySet[Schedule]:
        return rows.filter(paused=value == "true")


class WorkerFilter(django_filters.FilterSet):  # type: ignore[misc]
    status = django_filters.ChoiceFilter(
        choices=[(status, status) for status in WORKER_STATUSES], method="by_status"
    )

    class Meta:
        model = Worker
        fields: list[str] = []

    def by_status(self, rows: WorkerQuerySet, name: str, value: str) -> WorkerQuerySet:
        return rows.with_status(value)
