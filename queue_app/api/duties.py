"""/duties/: what the leader does for all, when it was last done, and what came of it."""

from __future__ import annotations

from typing import Any

from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from queue_app.api.base import StaffView
from queue_app.api.bodies import ReadOnlySerializer
from queue_app.api.fields import (
    StrictCharField,
    StrictChoiceField,
    StrictDateTimeField,
    StrictFloatField,
    StrictIntegerField,
)
from queue_app.api.parsers import refuse_unknown
from queue_app.domain.rights import Right
from queue_app.queries import duties
from queue_app.queries.duties import DutyReport


class LeaderSerializer(ReadOnlySerializer):
    """Who does the maintenance."""

    id = StrictCharField(source="leader", help_text="A worker's, or that of a `runmaintenance`.")
    token = StrictIntegerField(help_text="The fencing token of this leadership.")


class DutySerializer(ReadOnlySerializer):
    """A duty; what is told of its last run is null before the first."""

    name = StrictCharField(source="duty.name")
    does = StrictCharField(source="duty.doc")
    interval = StrictFloatField(source="duty.interval", help_text="Seconds between two runs, at least.")
    jitter = StrictFloatField(source="duty.jitter", help_text="Seconds added to the interval, at most.")
    status = StrictChoiceField(choices=("ok", "failing", "late"))
    last_run_at = StrictDateTimeField(source="at", allow_null=True)
    last_seconds = StrictFloatField(source="seconds", allow_null=True)
    last_count = StrictIntegerField(source="count", allow_null=True, help_text="Rows or jobs touched.")
    last_good_run_at = StrictDateTimeField(source="good_at", allow_null=True)
    runs = StrictIntegerField(source="history.runs", help_text="Since Redis was last empty.")
    total = StrictIntegerField(source="history.total", help_text="Rows or jobs touched in all runs.")
    # DRF takes fields out of the class: this hides no attribute of it.
    errors = StrictIntegerField(source="history.errors")  # type: ignore[assignment]
    last_error = StrictCharField(source="error", allow_null=True)
    last_error_at = StrictDateTimeField(source="error_at", allow_null=True)
    leader = StrictCharField(allow_null=True, help_text="Who did the last run.")
    host = StrictCharField(allow_null=True)


class DutiesSerializer(ReadOnlySerializer):
    """How the duties stand."""

    leader = LeaderSerializer(source="*", allow_null=True)
    duties = DutySerializer(source="lines", many=True)

    def to_representation(self, instance: DutyReport) -> dict[str, Any]:
        data = super().to_representation(instance)
        return data if instance.leader is not None else {**data, "leader": None}


class DutyViewSet(StaffView, viewsets.ViewSet):
    """The maintenance duties. 503 while Redis, which keeps what is known of them, is away."""

    serializer_class = DutiesSerializer
    rights = {"list": Right.VIEW_WORKER}

    def list(self, request: Request) -> Response:
        """Who leads, and all duties, in the order in which they are done."""
        refuse_unknown(request.query_params, ())
        return Response(DutiesSerializer(duties.now()).data)
