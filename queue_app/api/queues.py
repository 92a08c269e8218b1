"""/queues/: what waits where, pause and resume."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response

from queue_app.api.base import StaffView
from queue_app.api.bodies import ReadOnlySerializer, ReasonSerializer
from queue_app.api.fields import (
    StrictBooleanField,
    StrictCharField,
    StrictDictField,
    StrictFloatField,
    StrictIntegerField,
)
from queue_app.api.parsers import refuse_unknown
from queue_app.domain.names import check_queue
from queue_app.domain.rights import Right
from queue_app.exceptions import InvalidOption
from queue_app.operations import queues as operations
from queue_app.queries import queues as queries


class NamePagination(PageNumberPagination):
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


class DepthSerializer(ReadOnlySerializer):
    """What Redis holds of a queue, in the words of `stats/`."""

    waiting = StrictIntegerField()
    due_later = StrictIntegerField(help_text="Delayed, and their time is near.")
    set_aside = StrictIntegerField(help_text="No worker has known their task.")


class QueueSerializer(ReadOnlySerializer):
    """A queue."""

    name = StrictCharField()
    paused = StrictBooleanField()
    max_attempts = StrictIntegerField(allow_null=True)
    timeout = StrictFloatField(allow_null=True, help_text="Seconds.")
    depth = DepthSerializer(allow_null=True, help_text="Null while Redis is away.")
    counts = StrictDictField(child=serializers.IntegerField(), help_text="Jobs of the record, by state.")
    counts_capped = StrictBooleanField(help_text="Whether there may be more than `counts` says.")


class QueueViewSet(StaffView, viewsets.ViewSet):
    """Queues: those that operators said something of, that Redis has seen, or that have jobs waiting."""

    serializer_class = QueueSerializer
    rights = {
        "list": Right.VIEW_QUEUE,
        "retrieve": Right.VIEW_QUEUE,
        "pause": Right.OPERATE_QUEUE,
        "resume": Right.OPERATE_QUEUE,
    }
    bodies = {"pause": ReasonSerializer, "resume": ReasonSerializer}
    lookup_field = "name"
    lookup_value_regex = "[^/]+"

    def list(self, request: Request) -> Response:
        """A page of queues by name, with depth and counts."""
        refuse_unknown(request.query_params, ("page", "page_size"))
        pages = NamePagination()
        counts = queries.JobCounts()
        page: Any = pages.paginate_queryset(queries.known_names(counts), request, view=self)
        return pages.get_paginated_response(
            QueueSerializer(queries.describe(page or [], counts), many=True).data
        )

    def retrieve(self, request: Request, name: str) -> Response:
        """One queue; any name that may be one: a queue needs no row."""
        return self._detail(_name(name))

    @action(detail=True, methods=["post"])
    def pause(self, request: Request, name: str) -> Response:
        """Let nothing of it start; enqueueing goes on."""
        reason = self.body().validated_data["reason"]
        operations.pause(self.actor, _name(name), reason=reason)
        return self._detail(name)

    @action(detail=True, methods=["post"])
    def resume(self, request: Request, name: str) -> Response:
        """Let it start jobs again."""
        reason = self.body().validated_data["reason"]
        operations.resume(self.actor, _name(name), reason=reason)
        return self._detail(name)

    def _detail(self, name: str) -> Response:
        data = QueueSerializer(queries.describe([name], queries.JobCounts())[0]).data
        return Response(self.visible_fields(data, Right.VIEW_QUEUE, "paused"))


def _name(text: str) -> str:
    try:
        return check_queue(text)
    except InvalidOption as error:
        raise NotFound(str(error)) from None
