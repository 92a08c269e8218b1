"""A worker: a supervising process. Its id is new at every boot, never a host's or pod's name."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Q

from queue_app import clock, conf
from queue_app.domain import ids

#: What `Worker.status` may say.
WORKER_STATUSES = ("alive", "silent", "stuck", "stopped")

#: Seconds within which an idle child claims, twice over: it waits on its bell for at most five.
CLAIM_PATIENCE = 10.0


def _limits() -> tuple[datetime, datetime]:
    """The latest heartbeat that is too old, and the latest claim."""
    now, lease = clock.now(), conf.get().LEASE
    return now - timedelta(seconds=lease), now - timedelta(seconds=max(lease, CLAIM_PATIENCE))


class WorkerQuerySet(models.QuerySet["Worker"]):
    def living(self) -> WorkerQuerySet:
        """Those that may still run something: not stopped, and not silent for longer than it takes to be sure."""
        return self.filter(
            stopped_at=None, heartbeat_at__gt=clock.now() - timedelta(seconds=2 * conf.get().LEASE)
        )

    def with_status(self, status: str) -> WorkerQuerySet:
        """Those whose `Worker.status` is this one of `WORKER_STATUSES`: the same in the words of the database."""
        beaten, claimed = _limits()
        if status == "stopped":
            return self.filter(stopped_at__isnull=False)
        rows = self.filter(stopped_at__isnull=True)
        if status == "silent":
            return rows.filter(heartbeat_at__lt=beaten)
        able = Q(last_claim_at__gte=claimed) | Q(last_claim_at=None, started_at__gte=claimed)
        return rows.filter(~able if status == "stuck" else able, heartbeat_at__gte=beaten)


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
        help_text="When it could last claim, also if there was nothing, or all its children were busy.",
    )
    stopped_at = models.DateTimeField(null=True, blank=True)
    refused = models.IntegerField(
        default=0, help_text="Outcomes that did not count: it had been given up for dead."
    )

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        permissions = [("operate_worker", "Can operate workers")]
        indexes = [
            models.Index(
                fields=["heartbeat_at"], name="queue_app_worker_alive", condition=Q(stopped_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.hostname}:{self.pid} {self.id}"

    @property
    def status(self) -> str:
        """`alive`, `silent` (no heartbeat for a lease), `stuck` (it beats, but could not claim for so long) or
        `stopped`. A worker is healthy only if it could claim recently, not because its process exists."""
        beaten, claimed = _limits()
        if self.stopped_at is not None:
            return "stopped"
        if self.heartbeat_at < beaten:
            return "silent"
        return "stuck" if (self.last_claim_at or self.started_at) < claimed else "alive"
