"""Who may look at what in the admin, and change it: by the rights of `operations`, not by Django's own of a model."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from queue_app.operations.actor import Actor, Right


class ByRights:
    """Permissions of an admin.

    Attributes:
        edit_right: who may add, change and delete rows by hand; None: nobody.
    """

    edit_right: Right | None = None
    opts: Any

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request, Right(f"queue_app.view_{self.opts.model_name}"))

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


def may(request: HttpRequest, right: Right) -> bool:
    """Whether the user of a request has a right."""
    return Actor.of_request(request).may(right)
