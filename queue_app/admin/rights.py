"""Admin permissions from the rights of `operations`, in place of Django's model permissions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from queue_app.domain.rights import Right
from queue_app.operations.actor import Actor
from queue_app.queries.payload import MASK, MASKED

#: Lookups that match patterns.
PATTERNS = frozenset(
    [
        "regex",
        "iregex",
        "contains",
        "icontains",
        "endswith",
        "iendswith",
        "contained_by",
        "has_key",
        "has_keys",
        "has_any_keys",
    ]
)


class RightsMixin:
    """Permissions of an admin, from the rights of `operations`.

    Attributes:
        edit_right: the right to add, change and delete rows by hand; None: no user may.
        payload_fields: fields that need `view_payload` to see them or to filter by them.
    """

    edit_right: Right | None = None
    payload_fields: tuple[str, ...] = ()
    opts: Any

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, Right(f"queue_app.view_{self.opts.model_name}"))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)  # type: ignore[misc]
        return None if found is None else mark_visible(request, found)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Like Django, with two more limits.

        A filter must not name a masked field, because its value could be guessed. It must not match patterns, because
        no index serves these and a database may refuse them.
        """
        field, _, kind = lookup.partition("__")
        if field in self.payload_fields and not (request and may(request, Right.VIEW_PAYLOAD)):
            return False
        if kind.rpartition("__")[2] in PATTERNS:
            return False
        return bool(super().lookup_allowed(lookup, value, request))  # type: ignore[misc]

    def has_view_or_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may_edit(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may_edit(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may_edit(request)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Whether actions that cancel are offered."""
        return may(request, Right.OPERATE_JOB)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Whether actions that replay are offered."""
        return may(request, Right.REPLAY_DEADLETTER)

    def _may_edit(self, request: HttpRequest) -> bool:
        # The pages show the row, so that both rights are needed.
        right = self.edit_right
        return right is not None and self.has_view_permission(request) and may(request, right)


def mark_visible(request: HttpRequest, row: Any) -> Any:
    """Mark on the row which parts of it the user of a request may see, and return it."""
    row.payload_visible = may(request, Right.VIEW_PAYLOAD)
    row.letters_visible = may(request, Right.VIEW_DEADLETTER)
    return row


def payload(row: Any, show: Callable[[], SafeString | str]) -> SafeString | str:
    """A part of a row's payload, or the mask and its explanation."""
    if may_see_payload(row):
        return show()
    return format_html('{} <span class="help">{}</span>', MASK, MASKED)


def may_see_payload(row: Any) -> bool:
    """Whether the row's payload may be shown; see `mark_visible`."""
    return bool(getattr(row, "payload_visible", False))


def may(request: HttpRequest, right: Right) -> bool:
    """Whether the user of a request has a right."""
    return Actor.of_request(request).may(right)
