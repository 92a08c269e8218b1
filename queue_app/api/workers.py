"""/workers/: running and past workers."""

from __future__ import annotations

from queue_app.api.filters import WorkerFilter
from queue_app.api.records import RecordView
from queue_app.api.serializers import WorkerDetailSerializer, WorkerSerializer
from queue_app.domain.rights import Right
from queue_app.models import Worker


class WorkerViewSet(RecordView[Worker]):
    """Workers, newest first, with what their heartbeats and claims say of them."""

    queryset = Worker.objects.defer("tasks")
    serializer_class = WorkerSerializer
    detail_serializer_class = WorkerDetailSerializer
    filterset_class = WorkerFilter
    rights = {"list": Right.VIEW_WORKER, "retrieve": Right.VIEW_WORKER}
