"""Audit events: who did what to what, when and why. Read-only."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from queue_app.admin.base import RecordAdmin
from queue_app.admin.display import EMPTY, json_block, link
from queue_app.admin.filters import AgeFilter, InputFilter
from queue_app.models import AuditEvent, DeadLetter, Job, Queue, Schedule
from queue_app.models.audit_event import KINDS, VERBS, Phase
from queue_app.queries import selection

MODELS: dict[str, type[Model]] = {"deadletter": DeadLetter, "job": Job, "queue": Queue, "schedule": Schedule}


class VerbFilter(admin.SimpleListFilter):
    title = parameter_name = "verb"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(verb, verb.capitalize()) for verb in VERBS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(verb=self.value()) if self.value() in VERBS else queryset


class TargetFilter(admin.SimpleListFilter):
    """By kind; and by one target, to which the pages of rows link, such as `queue:mail`."""

    title, parameter_name = "target", "target"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        kinds = [(kind, str(MODELS[kind]._meta.verbose_name_plural).capitalize()) for kind in KINDS]
        value = request.GET.get(self.parameter_name, "")
        kind, colon, target = value.partition(":")
        if not colon or kind not in KINDS:
            return kinds
        names = MODELS[kind]._meta
        words = f"{capfirst(names.verbose_name)} {target}" if target else f"Many {names.verbose_name_plural}"
        return [*kinds, (value, words)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        condition = selection.targets(self.value() or "")
        return queryset if condition is None else queryset.filter(condition)


class ActorFilter(InputFilter):
    title = parameter_name = lookup = "actor"


@admin.register(AuditEvent)
class AuditEventAdmin(RecordAdmin):
    """What people and machines have done through the verbs of `operations`."""

    heavy = ("before", "after")
    list_display = ("at", "actor", "verb_label", "target", "count", "reason", "phase")
    list_display_links = ("at",)
    list_filter = (VerbFilter, TargetFilter, "actor_kind", ActorFilter, "phase", AgeFilter)
    search_help_text = "The id of an event, or the beginning of an actor's name."
    text_field = "actor"
    fields = (
        "at",
        "actor",
        "actor_kind",
        "actor_id",
        "verb_label",
        "target",
        "filter_json",
        "count",
        "reason",
        "before_json",
        "after_json",
        "request_id",
        "phase",
        "paired_event",
    )
    readonly_fields = fields

    @admin.display(description="Verb")
    def verb_label(self, event: AuditEvent) -> str:
        return event.verb.capitalize()

    @admin.display(description="Target")
    def target(self, event: AuditEvent) -> SafeString | str:
        kind = event.target_kind
        model = MODELS.get(kind)
        if model is None:
            return f"{kind} {event.target_id}"
        if not event.target_id:
            return str(model._meta.verbose_name_plural).capitalize()
        return link(model, event.target_id, f"{model._meta.verbose_name} {event.target_id}")

    @admin.display(description="Chosen by")
    def filter_json(self, event: AuditEvent) -> SafeString | str:
        return _block(event.filter)

    @admin.display(description="Before")
    def before_json(self, event: AuditEvent) -> SafeString | str:
        return _block(event.before)

    @admin.display(description="After")
    def after_json(self, event: AuditEvent) -> SafeString | str:
        return _block(event.after)

    @admin.display(description="Intent and result")
    def paired_event(self, event: AuditEvent) -> SafeString | str:
        """The other event of a verb for many."""
        if event.phase == Phase.RESULT:
            return link(AuditEvent, event.intent_id, "Its intent")
        if event.phase != Phase.INTENT:
            return EMPTY
        result = AuditEvent.objects.filter(intent_id=event.pk).values_list("pk", flat=True).first()
        if result is None:
            return "There is no result: it is under way, or its process died."
        return link(AuditEvent, result, "Its result")


def _block(value: Any) -> SafeString | str:
    return EMPTY if value is None else json_block(json.dumps(value, ensure_ascii=False))
