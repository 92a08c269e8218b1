"""Links from the page of a row to its audit events."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse

from queue_app.admin.rights import may
from queue_app.domain.rights import Right
from queue_app.models.audit_event import KINDS

#: Kinds of targets with bulk operations, whose audit events name no single row.
BY_MANY = ("deadletter", "job")


class AuditLinksMixin:
    """An admin whose row pages link to the audit events of the row."""

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        context["audit_links"] = audit_links(request, obj)
        found: HttpResponse = super().render_change_form(request, context, *args, obj=obj, **kwargs)  # type: ignore[misc]
        return found


def audit_links(request: HttpRequest, row: Model | None) -> list[tuple[str, str]]:
    """Text and address of each link, for those who may see the audit; the page of a new row has none."""
    if row is None or row._meta.model_name not in KINDS or not may(request, Right.VIEW_AUDITEVENT):
        return []
    try:
        page = reverse("admin:queue_app_auditevent_changelist")
    except NoReverseMatch:  # the project has unregistered it
        return []
    kind = row._meta.model_name
    targets = [("Audit events", f"{kind}:{row.pk}")]
    if kind in BY_MANY:
        targets.append((f"Audit events of many {row._meta.verbose_name_plural}", f"{kind}:"))
    return [(words, f"{page}?{urlencode({'target': target})}") for words, target in targets]
