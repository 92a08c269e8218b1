"""An attempt: one run of a job, written once, when it has ended."""

from __future__ import annotations

from django.db import models

from queue_app.domain.states import AttemptState
from queue_app.models.job import Job


class Attempt(models.Model):
    """How one run of a job ended."""

    #: No database constraint: it would cost a look-up of the job for each row, and both are written and
    #: pruned together by `lifecycle`.
    job = models.ForeignKey(
        Job, on_delete=models.CASCADE, related_name="attempts", db_constraint=False, db_index=False
    )
    number = models.IntegerField(help_text="1 for the first.")
    state = models.CharField(max_length=12, choices=AttemptState)
    #: No foreign key from history to workers: pruning a worker must not touch history.
    worker_id = models.UUIDField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField()
    error_class = models.CharField(
        max_length=255, default="", blank=True, help_text="Dotted path of the exception."
    )
    error = models.TextField(default="", blank=True, help_text="Its message, or the cause of a loss.")
    traceback = models.TextField(default="", blank=True)

    class Meta:
        ordering = ["job_id", "number"]
        # Attempts that succeeded enter neither.
        indexes = [
            models.Index(
                fields=["state", "id"],
                name="queue_app_attempt_rare",
                condition=~models.Q(state=AttemptState.SUCCEEDED),
            ),
            # For the beginning of an error's path, which needs this operator class on PostgreSQL.
            models.Index(
                fields=["error_class", "id"],
                name="queue_app_attempt_error",
                opclasses=["varchar_pattern_ops", "int8_ops"],
                condition=models.Q(error_class__gt=""),
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="queue_app_attempt_once"),
            models.CheckConstraint(condition=models.Q(number__gte=1), name="queue_app_attempt_number"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.job_id}: {self.state}"
