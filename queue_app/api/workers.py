"""/workers/: which there are and were."""

from __future__ import annotations

from rest_framework import viewsets
from rest_framework.exceptions import NotFound

from queue_app.api.base import NewestFirst, StaffView, uuid_or_404
from queue_app.api.filters import StrictFilterBackend, WorkerFilter
from queue_app.api.serializers import WorkerPageSerializer, WorkerSerializer
from queue_app.models import Worker


class WorkerViewSet(StaffView, viewsets.ReadOnlyModelViewSet[Worker]):
    """Workers, newest first, with what their heartbeats and claims say of them."""

    queryset = Worker.objects.defer("tasks")
    serializer_class = WorkerSerializer
    pagination_class = NewestFirst
    filter_backends = [StrictFilterBackend]
    filterset_class = WorkerFilter
    lookup_value_regex = "[^/]+"

    def get_serializer_class(self) -> type[WorkerSerializer]:
        return WorkerPageSerializer if self.detail else WorkerSerializer

    def get_object(self) -> Worker:
        worker = Worker.objects.filter(pk=uuid_or_404(self.kwargs["pk"], "worker")).first()
        if worker is None:
            raise NotFound(f"There is no worker {self.kwargs['pk']!r}.")
        return worker
