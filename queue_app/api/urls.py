"""Addresses of the API: `path("api/v1/", include("queue_app.api.urls"))`."""

from __future__ import annotations

from django.urls import re_path
from rest_framework import routers

from queue_app.api.audit import AuditEventViewSet
from queue_app.api.base import StaffView
from queue_app.api.dead_letters import DeadLetterViewSet
from queue_app.api.duties import DutyViewSet
from queue_app.api.errors import not_found
from queue_app.api.jobs import JobViewSet
from queue_app.api.queues import QueueViewSet
from queue_app.api.schedules import ScheduleViewSet
from queue_app.api.stats import StatsViewSet
from queue_app.api.workers import WorkerViewSet


class Root(StaffView, routers.APIRootView):
    """The lists of this API."""


class Router(routers.DefaultRouter):
    APIRootView = Root
    include_format_suffixes = False  # JSON is all there is


router = Router()
router.register("jobs", JobViewSet, basename="job")
router.register("dead-letters", DeadLetterViewSet, basename="deadletter")
router.register("queues", QueueViewSet, basename="queue")
router.register("stats", StatsViewSet, basename="stats")
router.register("schedules", ScheduleViewSet, basename="schedule")
router.register("duties", DutyViewSet, basename="duty")
router.register("workers", WorkerViewSet, basename="worker")
router.register("audit", AuditEventViewSet, basename="auditevent")

app_name = "queue_app_api"
urlpatterns = [*router.urls, re_path(r"", not_found)]
