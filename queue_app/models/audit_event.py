"""An audit event: who did what to what, when and why. Written once, by `operations.audit` alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from django.db import models
from django.db.models import Q

from queue_app import clock
from queue_app.domain import ids
from queue_app.exceptions import AppendOnly

#: What the verbs of `operations` are called, and what they are about.
VERBS = ("cancel", "change", "create", "delete", "edit", "pause", "replay", "resume", "run")
KINDS = ("deadletter", "job", "queue", "schedule")


class ActorKind(models.TextChoices):
    """What sort of actor asked."""

    USER = "user", "User"
    KEY = "key", "Key"
    COMMAND = "command", "Command"
    SYSTEM = "system", "System"


class Phase(models.TextChoices):
    """Which part of a verb an event tells."""

    DONE = "done", "Done"
    INTENT = "intent", "Intent"
    RESULT = "result", "Result"


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    """Reads alone. The duty `prune` deletes what is past its retention, by a door of its own."""

    def update(self, **_: Any) -> NoReturn:
        raise AppendOnly

    def bulk_update(self, *_: Any, **__: Any) -> NoReturn:
        raise AppendOnly

    def bulk_create(
        self, objs: Iterable[AuditEvent], *args: Any, update_conflicts: bool = False, **options: Any
    ) -> list[AuditEvent]:
        """Write new ones.

        Raises:
            AppendOnly: `update_conflicts`, which would write over old ones.
        """
        if update_conflicts:
            raise AppendOnly
        return super().bulk_create(objs, *args, **options)

    def delete(self) -> NoReturn:
        raise AppendOnly


class AuditEvent(models.Model):
    """What an actor did. A verb for many has two: the intent, committed before anything is done, and the result."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    at = models.DateTimeField(default=clock.now)
    actor_kind = models.CharField(max_length=8, choices=ActorKind)
    #: As text, so that it outlives the user.
    actor_id = models.CharField(max_length=64, default="", blank=True)
    actor = models.CharField(max_length=255, help_text="The actor's name at that time.")
    verb = models.CharField(max_length=32)
    target_kind = models.CharField(
        max_length=16, help_text="job, deadletter, queue, schedule, task or worker."
    )
    target_id = models.CharField(
        max_length=255, default="", blank=True, help_text="Of the one that it was about; empty: many."
    )
    filter = models.JSONField(null=True, blank=True, help_text="By what the many were chosen.")
    count = models.IntegerField(
        null=True,
        blank=True,
        help_text="How many were changed; null: an intent, or not known, as the verb was stopped.",
    )
    reason = models.CharField(max_length=500, default="", blank=True)
    before = models.JSONField(null=True, blank=True)
    after = models.JSONField(null=True, blank=True)
    request_id = models.CharField(max_length=128, default="", blank=True)
    phase = models.CharField(max_length=8, choices=Phase, default=Phase.DONE)
    #: Of a result: the id of its intent. No foreign key, as the older one is pruned first.
    intent_id = models.UUIDField(null=True, blank=True)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        base_manager_name = "objects"  # else `_base_manager` could update and delete
        # By time: the primary key, which is a UUIDv7.
        indexes = [
            models.Index(fields=["actor", "-id"], name="queue_app_audit_actor"),
            models.Index(fields=["verb", "-id"], name="queue_app_audit_verb"),
            models.Index(fields=["target_kind", "target_id", "-id"], name="queue_app_audit_target"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["intent_id"],
                name="queue_app_audit_result_once",
                condition=Q(intent_id__isnull=False),
            ),
            models.CheckConstraint(
                condition=Q(phase="result", intent_id__isnull=False)
                | (~Q(phase="result") & Q(intent_id__isnull=True)),
                name="queue_app_audit_intent",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verb} by {self.actor}"

    def save(self, **kwargs: Any) -> None:
        """Write a new one.

        Raises:
            AppendOnly: it is written already.
        """
        if not self._state.adding:
            raise AppendOnly
        super().save(**kwargs | {"force_insert": True})

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        """Raises:
        AppendOnly: always.
        """
        raise AppendOnly
