"""A dead letter: a job that will not be tried again by itself."""

from __future__ import annotations

from django.db import models

from queue_app import clock
from queue_app.domain import ids
from queue_app.domain.states import AttemptState, DeadReason
from queue_app.models.attempt import Attempt
from queue_app.models.job import Job


class DeadLetter(models.Model):
    """Why a job ended `failed`. A replay sets `replayed_at`; a job that dies again gets another one."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="dead_letters", db_constraint=False)
    task = models.CharField(max_length=255)
    queue = models.CharField(max_length=64)
    reason = models.CharField(max_length=16, choices=DeadReason)
    attempts = models.IntegerField(help_text="Attempts made when it died.")
    error_class = models.CharField(max_length=255, default="", blank=True)
    error = models.TextField(default="", blank=True)
    fingerprint = models.CharField(
        max_length=12, default="", blank=True, help_text="The same in all that died of the same."
    )
    created_at = models.DateTimeField(default=clock.now)
    replayed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        permissions = [("replay_deadletter", "Can run dead jobs again")]
        indexes = [
            models.Index(
                fields=["-id"], name="queue_app_dead_open", condition=models.Q(replayed_at__isnull=True)
            ),
            models.Index(
                fields=["fingerprint", "-id"],
                name="queue_app_dead_alike",
                condition=models.Q(replayed_at__isnull=True),
            ),
            models.Index(
                fields=["task", "-id"],
                name="queue_app_dead_task",
                condition=models.Q(replayed_at__isnull=True),
            ),
            models.Index(
                fields=["queue", "-id"],
                name="queue_app_dead_queue",
                condition=models.Q(replayed_at__isnull=True),
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["job"], name="queue_app_dead_once", condition=models.Q(replayed_at__isnull=True)
            ),
        ]

    def deaths(self) -> models.QuerySet[Attempt]:
        """The attempts in which the job's process died, with their causes; the latest first."""
        rows = Attempt.objects.using(self._state.db).filter(job_id=self.job_id, state=AttemptState.LOST)
        return rows.filter(number__lte=self.attempts).order_by("-number")

    def __str__(self) -> str:
        return f"{self.task} {self.job_id}: {self.reason}"
