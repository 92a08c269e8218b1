"""/jobs/: submit, list, look at, cancel."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from queue_app.api.base import NewestFirst, StaffView
from queue_app.api.errors import Conflict
from queue_app.api.filters import JobFilter, StrictFilterBackend
from queue_app.api.parsers import fields
from queue_app.api.serializers import JobSerializer, JobSummarySerializer
from queue_app.api.submission import JobSubmission
from queue_app.client import get_job, states_now, waiting_for_task
from queue_app.lifecycle import operate
from queue_app.models import Job


class JobViewSet(StaffView, mixins.CreateModelMixin, mixins.ListModelMixin, viewsets.GenericViewSet[Job]):
    """Jobs. Lists leave out arguments and results."""

    queryset = Job.objects.defer("payload", "result")
    serializer_class = JobSubmission
    pagination_class = NewestFirst
    filter_backends = [StrictFilterBackend]
    filterset_class = JobFilter
    lookup_value_regex = "[^/]+"

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Enqueue a job. 201, with its address in `Location`."""
        submission = JobSubmission(data=request.data)
        submission.is_valid(raise_exception=True)
        data = self._page_of(get_job(submission.save()))
        return Response(data, status=status.HTTP_201_CREATED, headers={"Location": data["url"]})

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """A page of jobs, newest first."""
        rows: QuerySet[Job] = self.filter_queryset(self.get_queryset())
        page = self.paginate_queryset(rows) or []
        context = {
            **self.get_serializer_context(),
            "states": states_now(page),
            "strangers": waiting_for_task(page),
        }
        serializer: BaseSerializer[Job] = JobSummarySerializer(page, many=True, context=context)
        return self.get_paginated_response(serializer.data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """A job, with its attempts, result and progress."""
        return Response(self._page_of(get_job(pk)))

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel a job that has not started. 409, with the reason, for others."""
        fields(request)
        job = get_job(pk)
        answer = operate.cancel([job.pk], user=request.user)
        if not answer.done:
            raise Conflict(f"Not cancelled: {answer.refused[str(job.pk)]}")
        return Response(self._page_of(get_job(pk)))

    def _page_of(self, job: Job) -> dict[str, Any]:
        context = {
            **self.get_serializer_context(),
            "states": states_now([job]),
            "strangers": waiting_for_task([job]),
        }
        return dict(JobSerializer(job, context=context).data)
