"""A queue's settings. A queue needs no row to exist; the row holds what an operator has said of it."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from queue_app.domain.names import QUEUE_NAME, QUEUE_NAME_HELP


class Queue(models.Model):
    """What an operator has said of a queue."""

    name = models.CharField(
        primary_key=True, max_length=64, validators=[RegexValidator(QUEUE_NAME, QUEUE_NAME_HELP)]
    )
    paused = models.BooleanField(default=False, help_text="Nothing of it starts; enqueueing goes on.")
    max_attempts = models.SmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="Default for jobs whose task and call say nothing.",
    )
    timeout = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0.01)],
        help_text="Seconds; default for jobs whose task and call say nothing.",
    )
    keep_succeeded = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Seconds that succeeded and cancelled jobs are kept; empty: the setting KEEP_SUCCEEDED.",
    )
    keep_failed = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Seconds that failed and expired jobs are kept; empty: the setting KEEP_FAILED.",
    )

    class Meta:
        ordering = ["name"]
        permissions = [("operate_queue", "Can pause, resume, edit and delete queues")]

    def __str__(self) -> str:
        return self.name
