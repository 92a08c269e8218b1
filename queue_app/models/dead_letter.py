"""A dead letter: a job that will not be tried again by itself."""

from __future__ import annotations

from django.db import models

from queue_app import clock, ids
from queue_app.models.job import Job
from queue_app.states import DeadReason


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
    created_at = models.DateTimeField(default=clock.now)
    replayed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["-id"], name="queue_app_dead_open", condition=models.Q(replayed_at__isnull=True)
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["job"], name="queue_app_dead_once", condition=models.Q(replayed_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.job_id}: {self.reason}"
