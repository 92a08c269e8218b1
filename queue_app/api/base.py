"""The base of all API views. Its options do not depend on the project's REST_FRAMEWORK setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotFound, ParseError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.permissions import SAFE_METHODS, BasePermission, IsAdminUser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from queue_app import clock
from queue_app.api import errors, origin
from queue_app.api.bodies import StrictSerializer
from queue_app.api.metadata import BodyMetadata
from queue_app.api.parsers import StrictJSONParser
from queue_app.domain import ids
from queue_app.domain.rights import Right
from queue_app.operations.actor import Actor
from queue_app.queries import search


class StrictBasicAuthentication(BasicAuthentication):
    """Basic authentication that rejects names with U+0000, which PostgreSQL cannot look up."""

    def authenticate_credentials(self, userid: str, password: str, request: Any = None) -> Any:
        if "\x00" in userid:
            raise AuthenticationFailed("Invalid username/password.")
        return super().authenticate_credentials(userid, password, request)


class HasRight(BasePermission):
    """Requires the right that the view's `rights` names for the action."""

    def has_permission(self, request: Request, view: Any) -> bool:
        action = getattr(view, "action", None)
        if (
            action is None
        ):  # the list of lists; or a method that the address does not know, which is answered by 405
            return True
        right = view.rights.get("list" if action == "metadata" else action)
        if right is None:
            return False
        self.message = f"You need the right {right} for this."
        return Actor.of_request(request).may(right)


class StaffView(APIView):
    """Staff only, by session or basic authentication; JSON in and out. Sessions need the CSRF token to change
    anything; basic comes first, so that a client that is not known gets 401 and not 403.

    What may change something is decided here, for every method of every view.

    Attributes:
        rights: action → the right that it needs; an action that is not there is refused.
        bodies: action → the serializer of the body that it takes.
        queries: action → the serializer of the query parameters that it takes.
    """

    authentication_classes = [StrictBasicAuthentication, SessionAuthentication]
    permission_classes = [IsAdminUser, HasRight]
    action: str
    rights: Mapping[str, Right] = {}
    bodies: Mapping[str, type[StrictSerializer]] = {}
    queries: Mapping[str, type[StrictSerializer]] = {}
    parser_classes = [StrictJSONParser]
    renderer_classes = [JSONRenderer]
    metadata_class = BodyMetadata
    throttle_classes = []
    versioning_class = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check a request before its action runs.

        Raises:
            APIException: a page of another site sent it, the user lacks a right, or it is not JSON.
        """
        unsafe = request.method not in SAFE_METHODS
        if unsafe:
            origin.refuse_cross_site(request._request)
        super().initial(request, *args, **kwargs)
        if unsafe:
            origin.require_json(request._request)

    def visible_fields(self, data: Mapping[str, Any], right: Right, *names: str) -> dict[str, Any]:
        """The part of a row that the actor may see in the response to an operation.

        Args:
            data: the serialized row.
            right: the right to see all of it.
            names: fields shown without that right, beside `id`, `name` and `url`.
        """
        may = self.actor.may(right)
        return {name: data[name] for name in data if may or name in ("id", "name", "url", *names)}

    def body(self, **options: Any) -> Any:
        """The serializer that `bodies` names for this action, with the body that was sent, valid.

        Args:
            options: of the serializer.

        Raises:
            ParseError: the body is no object.
            ValidationError: names all fields that are wrong.
        """
        data = self.request.data
        if not isinstance(data, Mapping):
            raise ParseError("The body must be a JSON object.")
        return self._valid(self.bodies, data, options)

    def query(self) -> dict[str, Any]:
        """The parameters of the query, as the serializer that `queries` names for this action has them.

        Raises:
            ValidationError: names all that are wrong.
        """
        return dict(self._valid(self.queries, self.request.query_params.dict(), {}).validated_data)

    def _valid(self, serializers: Mapping[str, Any], data: Any, options: dict[str, Any]) -> Any:
        serializer = serializers[self.action](data=data, **options)
        serializer.is_valid(raise_exception=True)
        return serializer

    @property
    def actor(self) -> Actor:
        """The actor of this request."""
        return Actor.of_request(self.request)

    def get_exception_handler(self) -> Callable[..., Any]:
        return errors.handle


class NewestFirstPagination(CursorPagination):
    """Pages by id, newest first: a page costs the same however deep it lies, and nothing is counted.

    A filter that no index serves is looked for in a part of the history (`queries.search`). If that ends before the
    page is full, `searched_since` says where, and `next` goes on from there.
    """

    ordering = "-id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        cursor, size = self.decode_cursor(request), (self.get_page_size(request) or 0) + 1
        position = None if cursor is None else cursor.position
        #: The last key that was searched, in each direction; None: searched to the end.
        self._searched_down_to = self._searched_up_to = None
        if cursor is not None and cursor.reverse and position is not None:
            found = search.oldest(queryset, position)
            self._searched_up_to = found.searched_to
        else:
            found = search.newest(queryset, size, position)
            self._searched_down_to = found.searched_to
        if not found.is_plain:
            queryset = queryset.filter(pk__in=found.first(size))
        return super().paginate_queryset(queryset, request, view)

    def get_next_link(self) -> str | None:
        if not self.has_next and self._searched_down_to is not None:
            return self._link(False, self._searched_down_to)
        if self.has_next and not self.page:  # the row at which the search began may be one of the next page
            return self._link(False, _adjacent(self.next_position, 1))
        return super().get_next_link()

    def get_previous_link(self) -> str | None:
        if not self.has_previous and self._searched_up_to is not None:
            return self._link(True, self._searched_up_to)
        if self.has_previous and not self.page:
            return self._link(True, _adjacent(self.previous_position, -1))
        return super().get_previous_link()

    def _link(self, reverse: bool, position: Any) -> str:
        where: Any = position and str(position)  # the stubs want a number
        return self.encode_cursor(Cursor(0, reverse, where))

    def get_paginated_response(self, data: Any) -> Response:
        answer = super().get_paginated_response(data)
        ended = self._searched_down_to if not self.has_next else None
        answer.data["searched_since"] = None if ended is None else clock.from_seconds(ids.made_at(ended))
        return answer

    def decode_cursor(self, request: Request) -> Cursor | None:
        cursor = super().decode_cursor(request)
        if cursor is not None and cursor.position is not None:
            try:
                UUID(str(cursor.position))
            except ValueError:
                raise NotFound(self.invalid_cursor_message) from None
        return cursor


def _adjacent(position: Any, step: int) -> UUID | None:
    """The next higher or lower key."""
    return position and UUID(int=min(max(UUID(str(position)).int + step, 0), (1 << 128) - 1))


def uuid_or_404(text: str, what: str) -> UUID:
    """The id in an address.

    Raises:
        NotFound: it is none, so there is no such row.
    """
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"There is no {what} {text[:64]!r}.") from None
