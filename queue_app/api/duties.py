"""/duties/: what the leader does for all, when it was last done, and what came of it."""

from __future__ import annotations

from typing import Any

from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from queue_app.api.base import StaffView
from queue_app.api.parsers import refuse_unknown
from queue_app.operations.actor import Right
from queue_app.queries import duties


class DutyViewSet(StaffView, viewsets.ViewSet):
    """The maintenance duties. 503 while Redis, which keeps what is known of them, is away."""

    rights = {"list": Right.VIEW_WORKER}

    def list(self, request: Request) -> Response:
        """Who leads, and all duties, in the order in which they are done."""
        refuse_unknown(request.query_params, ())
        return Response(_as_json(duties.now()))


def _as_json(found: duties.Report) -> dict[str, Any]:
    return {
        "leader": None if found.leader is None else {"id": found.leader, "token": found.token},
        "duties": [
            {
                "name": line.duty.name,
                "does": line.duty.doc,
                "interval": line.duty.interval,
                "jitter": line.duty.jitter,
                "status": line.status,
                "last_run_at": line.at,
                "last_seconds": line.history.seconds if line.at else None,
                "last_count": line.history.count if line.at else None,
                "last_good_run_at": line.good_at,
                "runs": line.history.runs,
                "total": line.history.total,
                "errors": line.history.errors,
                "last_error": line.history.error or None,
                "last_error_at": line.error_at,
                "leader": line.history.leader or None,
                "host": line.history.host or None,
            }
            for line in found.lines
        ],
    }
