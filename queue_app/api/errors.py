"""Every error of the API is JSON: `{"<field>": ["…"]}` for a field that is wrong, else `{"detail": "…"}`."""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from redis.exceptions import RedisError
from rest_framework import status
from rest_framework.exceptions import APIException, NotFound, ParseError, PermissionDenied
from rest_framework.response import Response
from rest_framework.views import exception_handler

from queue_app.exceptions import JobDoesNotExist, NotPermitted, StoreUnavailable
from queue_app.queries import stores

logger = logging.getLogger(__name__)

#: Clients do not see the address of a store or the remedy: these are for the operators of the site.
SEE_LOG = "The log of the web server says more."


class Conflict(APIException):
    """409: the row is not in a state that allows this."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "The job is not in a state that allows this."
    default_code = "conflict"


class TooLarge(APIException):
    """413: more bytes than any request may have."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The request is too large."
    default_code = "too_large"


class Unavailable(APIException):
    """503: a store is away; the same request may succeed later."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "A store cannot be reached."
    default_code = "unavailable"
    wait = 2  # seconds, sent as Retry-After


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """The response to an error; None: Django handles it as a server error."""
    return exception_handler(_as_api_error(error), context)


def _as_api_error(error: Exception) -> Exception:
    if isinstance(error, RedisError):
        error = stores.unavailable(error)
    if isinstance(error, StoreUnavailable):  # its own text says where the store is
        logger.warning("%s", error)
        return Unavailable(f"{error.public} {SEE_LOG}")
    if stores.is_outage(error):
        logger.error("The database cannot do what the API asks: %s", stores.explain(error))
        return Unavailable("The database cannot do this now.")  # its own words name hosts and users
    if isinstance(error, NotPermitted):
        return PermissionDenied(str(error))
    if isinstance(error, JobDoesNotExist):
        return NotFound(str(error))
    if isinstance(error, RequestDataTooBig):
        return TooLarge()
    if isinstance(error, SuspiciousOperation | BadRequest):
        return ParseError("The request is malformed.")
    return error


@csrf_exempt
def not_found(request: HttpRequest) -> JsonResponse:
    """For addresses below the API's root that are none of its own: Django's page would be HTML."""
    hint = "" if request.path.endswith("/") else " Addresses of this API end with a slash."
    return JsonResponse({"detail": f"There is nothing at this address.{hint}"}, status=404)
