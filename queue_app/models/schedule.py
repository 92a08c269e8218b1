"""A schedule: a call of a task that is enqueued again and again, by the clocks of a time zone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models, router, transaction
from django.db.models import Q

from queue_app import clock, conf, signals
from queue_app.domain import cron, ids, serialization
from queue_app.domain.names import check_queue, priority_of
from queue_app.exceptions import InvalidArguments, InvalidOption
from queue_app.models.schedule_fields import Missed as Missed
from queue_app.models.schedule_fields import call_of, check_name, check_task
from queue_app.models.schedule_fields import default_zone as default_zone
from queue_app.models.schedule_manager import ScheduleManager

#: Seconds before its time at which a tick is enqueued. More than the time between two runs of the duty, and less than a
#: minute, so that a schedule has at most one tick ahead.
AHEAD = 10.0

#: Seconds by which the clocks of two hosts may differ without an edit on one repeating a tick that the other enqueued.
CLOCKS = 300.0

#: Changing any of these recomputes `next_at`.
TIMING = ("cron", "zone", "paused")
#: Written by the tick, never by a save: values that were read a while ago would move the schedule back.
TICKED = frozenset({"next_at", "last_at", "last_job_id"})


class Schedule(models.Model):
    """A call of a task, and when it is due. `save` computes the next tick."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    name = models.CharField(max_length=100)
    task = models.CharField(max_length=255, help_text="Dotted path of the task.")
    arguments = models.TextField(
        default=serialization.NO_ARGUMENTS,
        help_text='JSON: a list of the positional and the keyword arguments, [[1], {"x": 2}].',
    )
    cron = models.CharField(
        max_length=100,
        help_text="Minute, hour, day of month, month, day of week, such as 30 6 * * MON-FRI; or @hourly, @daily, …",
    )
    zone = models.CharField(
        max_length=64,
        default=default_zone,
        help_text="Time zone, such as Europe/Berlin, by whose clocks it is due.",
    )
    queue = models.CharField(max_length=64, null=True, blank=True, help_text="Empty: the task's own.")
    priority = models.SmallIntegerField(
        null=True, blank=True, help_text="-100…100; higher runs first. Empty: the task's own."
    )
    jitter = models.PositiveIntegerField(
        default=0,
        validators=[MaxValueValidator(86_400, "The jitter is at most 86400 seconds, a day.")],
        help_text="Seconds: each run starts at a random moment within so many after its time.",
    )
    missed = models.CharField(
        max_length=4,
        choices=Missed,
        default=Missed.ONCE,
        help_text="What becomes of the times that pass while no worker is there to see them.",
    )
    paused = models.BooleanField(
        default=False, help_text="It is never due; what it would have run is not made up for."
    )
    #: The next tick that is not enqueued yet; null while the schedule is paused.
    next_at = models.DateTimeField(null=True, blank=True, editable=False)
    #: The last tick that was enqueued, and the job that this made.
    last_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_job_id = models.UUIDField(null=True, blank=True, editable=False)
    error = models.TextField(
        default="",
        blank=True,
        editable=False,
        help_text="Why its ticks cannot be enqueued; they wait until they can.",
    )
    #: The task's options when a save last looked it up, for leaders that have not imported its module
    #: (domain/task_options.py).
    task_options = models.TextField(default="", db_default="", editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    objects: ClassVar[ScheduleManager] = ScheduleManager()

    class Meta:
        ordering = ["name"]
        permissions = [("manage_schedule", "Can create, change, delete, pause and run schedules")]
        indexes = [
            models.Index(
                fields=["next_at"], name="queue_app_schedule_due", condition=Q(next_at__isnull=False)
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["name"], name="queue_app_schedule_name"),
            models.CheckConstraint(
                condition=Q(paused=True, next_at__isnull=True) | Q(paused=False, next_at__isnull=False),
                name="queue_app_schedule_next_at",
            ),
            models.CheckConstraint(
                condition=Q(missed__in=sorted(Missed.values)), name="queue_app_schedule_missed"
            ),
            models.CheckConstraint(
                condition=Q(priority__isnull=True) | Q(priority__gte=-100, priority__lte=100),
                name="queue_app_schedule_priority",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def args(self) -> list[Any]:
        """Positional arguments."""
        return self.call[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return self.call[1]

    @property
    def call(self) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments.

        Raises:
            InvalidArguments: `arguments` is not what its help says.
        """
        return call_of(self.arguments)

    def upcoming(self, count: int = 5) -> list[datetime]:
        """When it is due next, soonest first, in its own zone; paused or not.

        Raises:
            InvalidOption: the cron expression or the zone is wrong.
        """
        zone = cron.zone_of(self.zone)
        return [at.astimezone(zone) for at in cron.upcoming(self.cron, self.zone, self._since(), count)]

    def clean_fields(self, exclude: Iterable[str] | None = None) -> None:
        """Check each field by the rule that Python callers get.

        Raises:
            ValidationError: names each field that is wrong, and what it may be.
        """
        excluded = set(exclude or ())
        found: dict[str, Any] = {}
        try:
            super().clean_fields(exclude=excluded)
        except ValidationError as error:
            found = error.update_error_dict(found)
        self.queue = self.queue or None
        rules: dict[str, Callable[[], Any]] = {
            "name": lambda: check_name(self.name),
            "task": lambda: check_task(self.task),
            "arguments": self._clean_arguments,
            "cron": lambda: cron.validate(self.cron),
            "zone": lambda: cron.zone_of(self.zone),
            "queue": lambda: None if self.queue is None else check_queue(self.queue),
            "priority": self._clean_priority,
        }
        for name, rule in rules.items():
            if name in excluded or name in found:
                continue
            try:
                rule()
            except (InvalidOption, InvalidArguments) as error:
                found[name] = [str(error)]
        if found:
            raise ValidationError(found)

    def validate_constraints(self, exclude: Iterable[str] | None = None) -> None:
        """As always, without `next_at`, which `save` computes."""
        super().validate_constraints(exclude={*(exclude or ()), "next_at"})

    def _clean_arguments(self) -> None:
        self.arguments = serialization.dump_arguments(*self.call, conf.get().PAYLOAD_LIMIT)

    def _clean_priority(self) -> None:
        self.priority = None if self.priority is None else priority_of(self.priority)

    def save(self, **kwargs: Any) -> None:
        """Write the schedule. Only this computes the next tick: for a new schedule, and when the cron expression, the
        zone or `paused` changes. Otherwise the ticks go on as the row says. If the task is written, its options are
        kept with it, which may import its module.

        Raises:
            InvalidOption: the cron expression or the zone is wrong.
        """
        if self._state.adding:
            self.announce_task()
            self.next_at = self._next()
            super().save(**kwargs)
            return
        given = kwargs.pop("update_fields", None)
        fields = (
            {f.name for f in self._meta.concrete_fields if not f.primary_key} if given is None else set(given)
        )
        fields -= TICKED
        if "task" in fields:  # not for a pause alone: the module may be broken
            self.announce_task()
            fields.add("task_options")
        using = kwargs.pop("using", None) or router.db_for_write(Schedule, instance=self)
        with transaction.atomic(using=using):
            if not fields.isdisjoint(TIMING):
                fields |= self._follow(fields, using)
            if fields:
                self.error = ""  # the next tick finds out whether it persists
                super().save(using=using, update_fields=fields | {"error"}, **kwargs)

    def announce_task(self) -> None:
        """Let `scheduling` keep the task's options. This may import the task's module."""
        signals.schedule_task_written.send(sender=Schedule, schedule=self)

    def _follow(self, fields: set[str], using: str) -> set[str]:
        """Recompute the next tick if the timing differs from that of the row.

        Returns:
            The fields to write beyond `fields`.
        """
        # Locked and read again: no process ticks meanwhile, and no enqueued tick comes twice.
        row = Schedule.objects.using(using).select_for_update().filter(pk=self.pk).first()
        if row is None:
            return set()  # it was deleted; the update finds that out
        for name in TIMING:
            if name not in fields:
                setattr(self, name, getattr(row, name))
        self.last_at, self.last_job_id, self.next_at = row.last_at, row.last_job_id, row.next_at
        changed = {name for name in TIMING if getattr(self, name) != getattr(row, name)}
        if not changed:
            return set()
        # A schedule that became invalid, because this machine's zones changed, can still be paused.
        self.next_at = None if changed == {"paused"} and self.paused else self._next()
        return {"next_at"}

    def _next(self) -> datetime | None:
        found = cron.next_after(self.cron, self.zone, self._since())
        return None if self.paused else found

    def _since(self) -> datetime:
        """Now; or the last tick if it was enqueued ahead of its time, so that it is not enqueued again."""
        now = clock.now()
        if self.last_at is not None and now < self.last_at <= now + timedelta(seconds=AHEAD + CLOCKS):
            return self.last_at
        return now
