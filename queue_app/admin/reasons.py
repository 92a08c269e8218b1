"""The reason field: beside the actions of a list, in the forms that edit a row, and where deleting is confirmed."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.helpers import ActionForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from queue_app.operations.audit import MAX_REASON_LENGTH


class ReasonForm(ActionForm):
    """The action form above a list, with a reason field."""

    reason = forms.CharField(
        required=False,
        max_length=MAX_REASON_LENGTH,
        widget=forms.TextInput(attrs={"placeholder": "Reason (optional)"}),
    )


def reason_of(request: HttpRequest) -> str:
    """The reason that was sent with a request; empty without one."""
    return request.POST.get("reason", "")[:MAX_REASON_LENGTH]


class ReasonMixin:
    """An admin with a reason field in the forms that edit and delete rows. Text that was typed before, in a form with
    an error or above a list, is kept."""

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        editing: bool = self._may_edit(request)  # type: ignore[attr-defined]
        context |= {"takes_reason": editing, **_field(request)}
        found: HttpResponse = super().render_change_form(request, context, *args, **kwargs)  # type: ignore[misc]
        return found

    def render_delete_form(self, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
        found: HttpResponse = super().render_delete_form(request, context | _field(request))  # type: ignore[misc]
        return found

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        found = super().response_action(request, *args, **kwargs)  # type: ignore[misc]
        if isinstance(found, TemplateResponse):  # Django's own action asks whether to delete
            found.context_data = (found.context_data or {}) | _field(request)
        return found


def _field(request: HttpRequest) -> dict[str, Any]:
    """What the template of the field needs."""
    return {"reason": reason_of(request), "reason_limit": MAX_REASON_LENGTH}
