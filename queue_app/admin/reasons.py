"""Why an action is asked for: a field beside the actions of a list."""

from __future__ import annotations

from django import forms
from django.contrib.admin.helpers import ActionForm
from django.http import HttpRequest

from queue_app.operations.audit import REASON


class ReasonForm(ActionForm):
    """The form above a list, with a field for why."""

    reason = forms.CharField(
        required=False, max_length=REASON, widget=forms.TextInput(attrs={"placeholder": "Reason (optional)"})
    )


def reason_of(request: HttpRequest) -> str:
    """Why an action is asked for."""
    return request.POST.get("reason", "")[:REASON]
