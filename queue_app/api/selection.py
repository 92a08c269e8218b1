"""Which jobs a request for many is about: the fields of `POST /jobs/cancel/`, checked."""

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
from queue_app.operations.audit import chosen_ids

#: By which fields jobs may be chosen; at least one must be given, as an empty body is never meant to say all jobs.
CHOOSING = ("ids", "task", "queue", "state")


class JobSelection(StrictSerializer):
    """Unfinished jobs, by their ids or by what they are."""

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
        if not any(name in attrs for name in CHOOSING):
            raise ParseError(f"Say which jobs: give one or more of {', '.join(CHOOSING)}.")
        return attrs

    def in_words(self) -> dict[str, Any]:
        """What was chosen by, for the audit."""
        given = self.validated_data
        chosen = {name: str(given[name]) for name in ("task", "queue", "state") if name in given}
        return chosen | (chosen_ids(given["ids"]) if "ids" in given else {})

    def rows(self) -> QuerySet[Job]:
        """The jobs chosen, those that are finished among them: no verb takes these."""
        given = self.validated_data
        rows = Job.objects.all()
        if "ids" in given:
            rows = rows.filter(pk__in=given["ids"])
        chosen = {name: given[name] for name in ("task", "queue") if name in given}
        if "state" in given:
            chosen["state"] = JobState(given["state"])
        return rows.filter(**chosen)
