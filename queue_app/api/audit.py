"""/audit/: the audit events."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from queue_app.api.records import RecordView
from queue_app.domain.rights import Right
from queue_app.exceptions import InvalidOption
from queue_app.models import AuditEvent
from queue_app.models.audit_event import KINDS, VERBS, ActorKind, Phase
from queue_app.queries import selection


class AuditEventSerializer(serializers.ModelSerializer[AuditEvent]):
    """An audit event."""

    url = serializers.HyperlinkedIdentityField(view_name="queue_app_api:auditevent-detail")

    class Meta:
        model = AuditEvent
        fields = [
            "id",
            "url",
            "at",
            "actor_kind",
            "actor",
            "actor_id",
            "verb",
            "target_kind",
            "target_id",
            "filter",
            "count",
            "reason",
            "before",
            "after",
            "request_id",
            "phase",
            "intent_id",
        ]
        read_only_fields = fields


class AuditEventFilter(django_filters.FilterSet):  # type: ignore[misc]
    """`target` is a kind, such as `queue`, or one of a kind, such as `queue:mail`."""

    actor = django_filters.CharFilter(max_length=255)
    actor_kind = django_filters.ChoiceFilter(choices=ActorKind.choices)
    verb = django_filters.ChoiceFilter(choices=[(verb, verb) for verb in VERBS])
    target = django_filters.CharFilter(max_length=300, method="by_target")
    phase = django_filters.ChoiceFilter(choices=Phase.choices)
    since = django_filters.CharFilter(max_length=64, method="by_time")

    class Meta:
        model = AuditEvent
        fields: list[str] = []

    def by_target(self, rows: QuerySet[AuditEvent], name: str, value: str) -> QuerySet[AuditEvent]:
        if (condition := selection.targets(value)) is None:
            kinds = ", ".join(KINDS)
            raise ValidationError(
                {name: [f"Use one of {kinds}, or one of them and an id, such as queue:mail."]}
            )
        return rows.filter(condition)

    def by_time(self, rows: QuerySet[AuditEvent], name: str, value: str) -> QuerySet[AuditEvent]:
        try:
            return rows.filter(selection.created_between(after=selection.parse_since(value)))
        except InvalidOption as error:
            raise ValidationError({name: [str(error)]}) from None


class AuditEventViewSet(RecordView[AuditEvent]):
    """Audit events, newest first. Read-only."""

    queryset = AuditEvent.objects.all()
    serializer_class = AuditEventSerializer
    detail_serializer_class: type[serializers.BaseSerializer[Any]] = AuditEventSerializer
    filterset_class = AuditEventFilter
    rights = {"list": Right.VIEW_AUDITEVENT, "retrieve": Right.VIEW_AUDITEVENT}
