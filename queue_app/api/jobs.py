"""/jobs/: submit, list, look at, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from queue_app.api.bodies import ReasonSerializer
from queue_app.api.errors import Conflict
from queue_app.api.filters import JobFilter
from queue_app.api.records import RecordList
from queue_app.api.selection import JobSelection
from queue_app.api.serializers import JobSerializer, JobSummarySerializer
from queue_app.api.submission import JobSubmission
from queue_app.domain.rights import Right
from queue_app.models import Job
from queue_app.operations import jobs as operations
from queue_app.queries.jobs import get_job, states_now, waiting_for_task


class JobViewSet(RecordList[Job], mixins.CreateModelMixin, mixins.ListModelMixin):
    """Jobs. Lists leave out arguments and results."""

    queryset = Job.objects.defer("payload", "result", "meta")
    serializer_class = JobSubmission
    filterset_class = JobFilter
    rights = {
        "list": Right.VIEW_JOB,
        "retrieve": Right.VIEW_JOB,
        "create": Right.SUBMIT_JOB,
        "cancel": Right.OPERATE_JOB,
        "cancel_many": Right.OPERATE_JOB,
    }
    bodies = {"create": JobSubmission, "cancel": ReasonSerializer, "cancel_many": JobSelection}

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Enqueue a job. 201, with its address in `Location`."""
        submission = JobSubmission(data=request.data)
        submission.is_valid(raise_exception=True)
        data = self._detail(get_job(operations.submit(self.actor, **submission.validated_data)))
        return Response(data, status=status.HTTP_201_CREATED, headers={"Location": data["url"]})

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """A page of jobs, newest first."""
        rows: QuerySet[Job] = self.filter_queryset(self.get_queryset())
        page = self.paginate_queryset(rows) or []
        serializer: BaseSerializer[Job] = JobSummarySerializer(page, many=True, context=self._context(page))
        return self.get_paginated_response(serializer.data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """A job, with its attempts, result and progress."""
        return Response(self._detail(get_job(pk)))

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel a job. 202 if it runs and will be interrupted; 409, with the reason, if it has ended."""
        reason = self.body().validated_data["reason"]
        job = get_job(pk)
        answer = operations.cancel(self.actor, [job.pk], reason=reason)
        if answer.refused:
            raise Conflict(f"Not cancelled: {answer.refused[str(job.pk)]}")
        code = status.HTTP_202_ACCEPTED if answer.requested else status.HTTP_200_OK
        return Response(self._detail(get_job(pk)), status=code)

    @action(detail=False, methods=["post"], url_path="cancel", url_name="cancel-many")
    def cancel_many(self, request: Request) -> Response:
        """Cancel many, oldest first: `{ids}`, or `{task, queue, state, limit}`, `reason` and `dry_run`."""
        chosen: JobSelection = self.body()
        rows, limit, reason = chosen.rows(), chosen.validated_data["limit"], chosen.validated_data["reason"]
        if chosen.validated_data["dry_run"]:
            count = operations.count_matching(self.actor, rows, limit=limit)
            return Response({"dry_run": True, "would_cancel": count})
        answer = operations.cancel_matching(self.actor, rows, chosen.criteria(), limit=limit, reason=reason)
        return Response(
            {"dry_run": False, "cancelled": len(answer.done), "interrupting": len(answer.requested)}
        )

    def _detail(self, job: Job) -> dict[str, Any]:
        data = JobSerializer(job, context=self._context([job])).data
        return self.visible_fields(data, Right.VIEW_JOB, "state", "status")

    def _context(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """What the serializers need to know of these jobs, asked once for all."""
        live = {
            "states": states_now(jobs),
            "waiting_for_task": waiting_for_task(jobs),
            "may_see_payload": self.actor.may(Right.VIEW_PAYLOAD),
        }
        return {**self.get_serializer_context(), **live}
