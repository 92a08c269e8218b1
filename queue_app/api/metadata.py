"""The response to OPTIONS: the body fields of each method of the URL."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import APIException
from rest_framework.metadata import SimpleMetadata
from rest_framework.request import Request, clone_request


class BodyMetadata(SimpleMetadata):
    """Reads the serializers that a view's `bodies` names, of the methods that the user may use."""

    def determine_metadata(self, request: Request, view: Any) -> Any:
        found = super().determine_metadata(request, view)
        if not hasattr(view, "get_serializer"):  # DRF looks at the actions of the others
            actions = self.determine_actions(request, view)
            found |= {"actions": actions} if actions else {}
        return found

    def determine_actions(self, request: Request, view: Any) -> dict[str, Any]:
        actions = {}
        asked = view.request, view.action
        for method, action in getattr(view, "action_map", {}).items():
            body = view.bodies.get(action)
            if body is None:
                continue
            view.request, view.action = clone_request(request, method.upper()), action
            try:
                view.check_permissions(view.request)
            except APIException:
                continue
            finally:
                view.request, view.action = asked
            actions[method.upper()] = self.get_serializer_info(body())
        return actions
