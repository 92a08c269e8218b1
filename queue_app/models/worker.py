"""A worker: a supervising process. Its id is new at every boot, never a host's or pod's name."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models import Q

from queue_app import clock, conf, ids


class WorkerQuerySet(models.QuerySet["Worker"]):
    def alive(self) -> WorkerQuerySet:
        """Not stopped, with a heartbeat within the lease."""
        since = clock.now() - timedelta(seconds=conf.get().LEASE)
        return self.filter(stopped_at__isnull=True, heartbeat_at__gte=since)

    def silent(self) -> WorkerQuerySet:
        """Not stopped, but without a heartbeat for a lease."""
        since = clock.now() - timedelta(seconds=conf.get().LEASE)
        return self.filter(stopped_at__isnull=True, heartbeat_at__lt=since)


class Worker(models.Model):
    """One run of `runworker`."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    hostname = models.CharField(max_length=255)
    pid = models.IntegerField()
    queues = models.TextField(help_text="As given to --queues.")
    processes = models.SmallIntegerField()
    slots = models.SmallIntegerField(help_text="Jobs that each process runs at once.")
    release = models.CharField(max_length=255, default="", blank=True)
    tasks = models.JSONField(
        default=list,
        blank=True,
        help_text="Tasks that it knew at its start; those in other modules it finds when a job names them.",
    )
    started_at = models.DateTimeField(default=clock.now)
    heartbeat_at = models.DateTimeField(default=clock.now)
    last_claim_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When one of its children could last claim (also if there was nothing).",
    )
    stopped_at = models.DateTimeField(null=True, blank=True)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["heartbeat_at"], name="queue_app_worker_alive", condition=Q(stopped_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid} {self.id}"

    @property
    def status(self) -> str:
        """`alive`, `silent` (no heartbeat for a lease), `stuck` (alive, but could not claim for one) or
        `stopped`. A worker is healthy only if it could claim recently, not because its process exists."""
        if self.stopped_at is not None:
            return "stopped"
        since = clock.now() - timedelta(seconds=conf.get().LEASE)
        if self.heartbeat_at < since:
            return "silent"
        if (self.last_claim_at or self.started_at) < since:
            return "stuck"
        return "alive"
