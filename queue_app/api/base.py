"""What all views of the API share, said here and not left to the project's REST_FRAMEWORK setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.permissions import SAFE_METHODS, IsAdminUser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from queue_app.api import errors, origin
from queue_app.api.parsers import StrictJSONParser


class Basic(BasicAuthentication):
    """Basic authentication. A name with U+0000 is no user's: PostgreSQL cannot even be asked for it."""

    def authenticate_credentials(self, userid: str, password: str, request: Any = None) -> Any:
        if "\x00" in userid:
            raise AuthenticationFailed("Invalid username/password.")
        return super().authenticate_credentials(userid, password, request)


class StaffView(APIView):
    """Staff only, by session or basic authentication; JSON in and out. Sessions need the CSRF token to change
    anything; basic comes first, so that a client that is not known gets 401 and not 403.

    What may change something is decided here, for every method of every view.
    """

    authentication_classes = [Basic, SessionAuthentication]
    permission_classes = [IsAdminUser]
    parser_classes = [StrictJSONParser]
    renderer_classes = [JSONRenderer]
    throttle_classes = []
    versioning_class = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let a request in.

        Raises:
            APIException: another site's page sent it, its sender may not, or it is no JSON.
        """
        unsafe = request.method not in SAFE_METHODS
        if unsafe:
            origin.refuse_foreign(request._request)
        super().initial(request, *args, **kwargs)
        if unsafe:
            origin.demand_json(request._request)

    def get_exception_handler(self) -> Callable[..., Any]:
        return errors.handle


class NewestFirst(CursorPagination):
    """Pages by id, newest first: a page costs the same however deep it lies, and nothing is counted."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    def decode_cursor(self, request: Request) -> Cursor | None:
        cursor = super().decode_cursor(request)
        if cursor is not None and cursor.position is not None:
            try:
                UUID(str(cursor.position))
            except ValueError:
                raise NotFound(self.invalid_cursor_message) from None
        return cursor


def uuid_or_404(text: str, what: str) -> UUID:
    """The id in an address.

    Raises:
        NotFound: it is none, so there is no such row.
    """
    try:
        return UUID(text)
    except ValueError:
        raise NotFound(f"There is no {what} {text[:64]!r}.") from None
