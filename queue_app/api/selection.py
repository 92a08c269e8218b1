"""The jobs that a bulk request selects: the checked fields of `POST /jobs/cancel/`."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.exceptions import ParseError

from queue_app.api.bodies import StrictSerializer
from queue_app.api.fields import ReasonField
from queue_app.api.parsers import DEFAULT_JOBS, MAX_JOBS
from queue_app.domain.states import UNFINISHED, JobState
from queue_app.models import Job
from queue_app.operations.audit import ids_criteria

#: Fields that select jobs. At least one must be given: an empty body must not mean all jobs.
CRITERIA = ("ids", "task", "queue", "state")


class JobSelection(StrictSerializer):
    """Selects unfinished jobs: by id, or by task, queue and state."""

    ids = serializers.ListField(
        child=serializers.UUIDField(), required=False, max_length=MAX_JOBS, help_text="Ids of jobs."
    )
    task = serializers.CharField(max_length=255, required=False, help_text="Dotted path of their task.")
    queue = serializers.CharField(max_length=64, required=False, help_text="The queue that they are in.")
    state = serializers.ChoiceField(
        choices=sorted(map(str, UNFINISHED)), required=False, help_text="The state that they are in."
    )
    limit = serializers.IntegerField(
        min_value=1, max_value=MAX_JOBS, default=DEFAULT_JOBS, help_text="At most so many, the oldest."
    )
    dry_run = serializers.BooleanField(default=False, help_text="Only count them.")
    reason = ReasonField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not any(name in attrs for name in CRITERIA):
            raise ParseError(f"Say which jobs: give one or more of {', '.join(CRITERIA)}.")
        return attrs

    def criteria(self) -> dict[str, Any]:
        """The given fields and their values, for the audit event."""
        given = self.validated_data
        criteria = {name: str(given[name]) for name in ("task", "queue", "state") if name in given}
        return criteria | (ids_criteria(given["ids"]) if "ids" in given else {})

    def rows(self) -> QuerySet[Job]:
        """The selected jobs. Finished ones may be among them; the verbs skip these."""
        given = self.validated_data
        rows = Job.objects.all()
        if "ids" in given:
            rows = rows.filter(pk__in=given["ids"])
        criteria = {name: given[name] for name in ("task", "queue") if name in given}
        if "state" in given:
            criteria["state"] = JobState(given["state"])
        return rows.filter(**criteria)
