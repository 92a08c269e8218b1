"""Rows as JSON. What the API takes, each view names in `bodies` and `queries`."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.reverse import reverse

from queue_app.domain import serialization
from queue_app.models import Attempt, DeadLetter, Job, Worker
from queue_app.models.worker import WORKER_STATUSES
from queue_app.queries.payload import MASK, MASKED, masked_meta

#: Attempts of one job that its page shows, the latest of them.
MAX_ATTEMPTS_SHOWN = 100


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    """A run of a job that has ended."""

    class Meta:
        model = Attempt
        fields = [
            "number",
            "state",
            "worker_id",
            "started_at",
            "finished_at",
            "error_class",
            "error",
            "traceback",
        ]
        read_only_fields = fields


class JobSummarySerializer(serializers.ModelSerializer[Job]):
    """A job in a list: without its arguments and result, which may be large.

    The view passes two values in the context. `states` maps each id to the job's current state, with what Redis knows.
    `waiting_for_task` is the set of ids of jobs that wait for a worker that knows their task.
    """

    url = serializers.HyperlinkedIdentityField(view_name="queue_app_api:job-detail")
    state = serializers.SerializerMethodField()
    status = serializers.SerializerMethodField(method_name="get_state")
    waiting_for_task = serializers.SerializerMethodField()
    progress = serializers.SerializerMethodField()
    attempts_made = serializers.IntegerField(source="attempt", read_only=True)

    class Meta:
        model = Job
        fields: list[str] = [
            "id",
            "url",
            "task",
            "queue",
            "priority",
            "state",
            "status",
            "waiting_for_task",
            "backend",
            "progress",
            "attempts_made",
            "failures",
            "max_attempts",
            "timeout",
            "worker_id",
            "enqueued_at",
            "run_after",
            "started_at",
            "last_attempted_at",
            "cancel_requested_at",
            "finished_at",
        ]
        read_only_fields = fields

    def get_state(self, job: Job) -> str:
        return str(self.context["states"][job.pk].value)

    def get_waiting_for_task(self, job: Job) -> bool:
        return job.pk in self.context["waiting_for_task"]

    def get_progress(self, job: Job) -> dict[str, Any] | None:
        if not job.progress:
            return None
        done, total, note = serialization.load(job.progress)
        return {"done": done, "total": total, "note": note}


class JobSerializer(JobSummarySerializer):
    """One job with its arguments, result, attempts, and what it carries about itself."""

    args = serializers.ReadOnlyField()
    kwargs = serializers.ReadOnlyField()
    result = serializers.ReadOnlyField(source="return_value")
    meta = serializers.SerializerMethodField()
    attempts = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()

    masked = serializers.SerializerMethodField()

    class Meta(JobSummarySerializer.Meta):
        fields = [
            *JobSummarySerializer.Meta.fields,
            "suspect",
            "args",
            "kwargs",
            "result",
            "meta",
            "error",
            "attempts",
            "masked",
        ]
        read_only_fields = fields

    def to_representation(self, instance: Job) -> dict[str, Any]:
        data = super().to_representation(instance)
        if not self.context["may_see_payload"]:
            data |= dict.fromkeys(("args", "kwargs", "result"), MASK)
            data["meta"] = masked_meta(data["meta"])
            data["attempts"] = [one | {"traceback": one["traceback"] and MASK} for one in data["attempts"]]
        return data

    def get_masked(self, job: Job) -> str | None:
        """Why something is masked."""
        return None if self.context["may_see_payload"] else MASKED

    def get_meta(self, job: Job) -> Any:
        return None if job.meta is None else serialization.load(job.meta)

    def get_attempts(self, job: Job) -> list[Any]:
        return list(AttemptSerializer(self._attempts(job), many=True).data)

    def get_error(self, job: Job) -> dict[str, str] | None:
        """Of the last attempt, if it has ended in one."""
        last = next(reversed(self._attempts(job)), None)
        if last is None or not (last.error_class or last.error):
            return None
        return {"class": last.error_class, "message": last.error}

    def _attempts(self, job: Job) -> list[Attempt]:
        if not hasattr(self, "_found"):
            rows = Attempt.objects.using(job._state.db).filter(
                job_id=job.pk, number__gt=job.attempt - MAX_ATTEMPTS_SHOWN
            )
            self._found = list(rows.order_by("number")) if job.attempt else []
        return self._found


class DeadLetterSerializer(serializers.ModelSerializer[DeadLetter]):
    """A dead letter."""

    url = serializers.HyperlinkedIdentityField(view_name="queue_app_api:deadletter-detail")
    job = serializers.UUIDField(source="job_id", read_only=True)
    job_url = serializers.SerializerMethodField()

    class Meta:
        model = DeadLetter
        fields = [
            "id",
            "url",
            "job",
            "job_url",
            "task",
            "queue",
            "reason",
            "attempts",
            "error_class",
            "error",
            "fingerprint",
            "created_at",
            "replayed_at",
        ]
        read_only_fields = fields

    def get_job_url(self, letter: DeadLetter) -> str:
        return str(reverse("queue_app_api:job-detail", [letter.job_id], request=self.context["request"]))


class DeadLetterDetailSerializer(DeadLetterSerializer):
    """One dead letter, with the deaths of its job's processes: attempt and cause, the latest first."""

    deaths = serializers.SerializerMethodField()

    class Meta(DeadLetterSerializer.Meta):
        fields = [*DeadLetterSerializer.Meta.fields, "deaths"]
        read_only_fields = fields

    def get_deaths(self, letter: DeadLetter) -> list[dict[str, Any]]:
        return [{"attempt": a.number, "cause": a.error} for a in letter.deaths()[:MAX_ATTEMPTS_SHOWN]]


class WorkerSerializer(serializers.ModelSerializer[Worker]):
    """A worker, and what its heartbeat and claims say of it."""

    url = serializers.HyperlinkedIdentityField(view_name="queue_app_api:worker-detail")
    status = serializers.ChoiceField(choices=WORKER_STATUSES, read_only=True)

    class Meta:
        model = Worker
        fields: list[str] = [
            "id",
            "url",
            "hostname",
            "pid",
            "status",
            "queues",
            "processes",
            "slots",
            "release",
            "started_at",
            "heartbeat_at",
            "last_claim_at",
            "stopped_at",
            "refused",
        ]
        read_only_fields = fields


class WorkerDetailSerializer(WorkerSerializer):
    """One worker, with the tasks that it knows."""

    class Meta(WorkerSerializer.Meta):
        fields = [*WorkerSerializer.Meta.fields, "tasks"]
        read_only_fields = fields
