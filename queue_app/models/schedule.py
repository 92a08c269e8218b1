"""A schedule: a call of a task that is enqueued again and again, by the clocks of a time zone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models, router, transaction
from django.db.models import Q

from queue_app import clock, conf, signals
from queue_app.domain import cron, ids, options, serialization
from queue_app.domain.names import check_queue, priority_of
from queue_app.exceptions import InvalidArguments, InvalidOption

#: Seconds before its time that a tick is enqueued. More than lies between two runs of the duty, and less than a minute,
#: so that a schedule has at most one tick ahead.
AHEAD = 10.0

#: Seconds by which the clocks of two hosts may differ, and an edit on one not repeat a tick that the other enqueued.
CLOCKS = 300.0

#: What a schedule is due by: with one of them, its next tick changes.
TIMING = ("cron", "zone", "paused")
#: Written by the tick, and never by a save: what was read a while ago would move the schedule back.
TICKED = frozenset({"next_at", "last_at", "last_job_id"})

_dotted_path = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+").fullmatch


class Missed(models.TextChoices):
    """What becomes of ticks whose time passed while nobody ticked."""

    SKIP = "skip", "Skip: none of them runs"
    ONCE = "once", "Once: one run stands for all of them"
    ALL = "all", "All: each of them runs"


def default_zone() -> str:
    """The project's time zone."""
    return settings.TIME_ZONE or "UTC"


class ScheduleManager(models.Manager["Schedule"]):
    def define(
        self,
        name: str,
        task: Any,
        cron: str,
        *,
        args: Iterable[Any] = (),
        kwargs: dict[str, Any] | None = None,
        **more: Any,
    ) -> Schedule:
        """Create the schedule of this name, or make it what is said here; made for code that runs at each deployment.

        A schedule that is there stays paused if it is; and its next tick stays, unless the cron expression or the
        zone changes.

        Args:
            task: a task, or its dotted path.
            args, kwargs: what the task is called with.
            more: `queue`, `priority` (also `high` and the like), `zone`, `jitter`, `missed`; what is left out is the
                default.

        Raises:
            ValidationError: names each field that is wrong.
            InvalidOption: there is no such option, or priority.
        """
        options.unknown(more, ("queue", "priority", "zone", "jitter", "missed"), "A schedule")
        try:
            arguments = serialization.dump_arguments(list(args), kwargs or {}, conf.get().PAYLOAD_LIMIT)
        except InvalidArguments as error:
            raise ValidationError({"arguments": str(error)}) from None
        if more.get("priority") is not None:
            more["priority"] = priority_of(more["priority"])
        values: dict[str, Any] = {
            "queue": None,
            "priority": None,
            "zone": default_zone(),
            "jitter": 0,
            "missed": Missed.ONCE,
        }
        values |= {"task": getattr(task, "module_path", task), "cron": cron, "arguments": arguments} | more
        wanted = self.model(name=name, **values)
        wanted.full_clean(validate_unique=False, validate_constraints=False)
        wanted.announce_task()  # before the row is locked: this may import the task's module
        return self.update_or_create(name=name, defaults={field: getattr(wanted, field) for field in values})[
            0
        ]


class Schedule(models.Model):
    """A call of a task, and when it is due. `save` finds out when it is due next."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    name = models.CharField(max_length=100)
    task = models.CharField(max_length=255, help_text="Dotted path of the task.")
    arguments = models.TextField(
        default="[[],{}]",
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
    #: The next tick that is not enqueued; null while it is paused.
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
    #: What the task said of its jobs when it was last looked up by a save, for leaders that have not imported its
    #: module: see `domain/task_options.py`.
    task_options = models.TextField(default="", db_default="", editable=False)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    objects = ScheduleManager()

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
        return _call_of(self.arguments)

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
            "name": self._check_name,
            "task": self._check_task,
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
        """As always, but for when it is due next: `save` finds that out."""
        super().validate_constraints(exclude={*(exclude or ()), "next_at"})

    def _check_name(self) -> None:
        if not self.name.strip() or not self.name.isprintable():
            raise InvalidOption(f"name is {self.name!r}; use 1–100 characters that can be seen.")

    def _check_task(self) -> None:
        # Whether there is such a task, only a worker can say: the job waits for one that knows it.
        if not _dotted_path(self.task):
            raise InvalidOption(
                f"task is {self.task!r}; use the dotted path of a task, such as 'shop.tasks.send_report'."
            )

    def _clean_arguments(self) -> None:
        self.arguments = serialization.dump_arguments(*self.call, conf.get().PAYLOAD_LIMIT)

    def _clean_priority(self) -> None:
        self.priority = None if self.priority is None else priority_of(self.priority)

    def save(self, **kwargs: Any) -> None:
        """Write it. When it is due next is found out here, and nowhere else: for a new one, and when the cron
        expression, the zone or `paused` changes. Otherwise the ticks go on where the row says. Where the task is
        written, its options are kept with it; that may import its module.

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
        if "task" in fields:  # not for a pause alone: the module may be what is wrong
            self.announce_task()
            fields.add("task_options")
        using = kwargs.pop("using", None) or router.db_for_write(Schedule, instance=self)
        with transaction.atomic(using=using):
            if not fields.isdisjoint(TIMING):
                fields |= self._follow(fields, using)
            if fields:
                self.error = ""  # whether it still holds, the next tick says
                super().save(using=using, update_fields=fields | {"error"}, **kwargs)

    def announce_task(self) -> None:
        """Let `scheduling` keep what the task says of its jobs. It may import the task's module."""
        signals.schedule_task_written.send(sender=Schedule, schedule=self)

    def _follow(self, fields: set[str], using: str) -> set[str]:
        """Find the next tick anew if what the row says of the timing changes.

        Returns:
            The fields to write beyond `fields`.
        """
        # Locked and read again, so that no process ticks meanwhile, and no tick that was enqueued comes twice.
        row = Schedule.objects.using(using).select_for_update().filter(pk=self.pk).first()
        if row is None:
            return set()  # it was deleted, as the update will find
        for name in TIMING:
            if name not in fields:
                setattr(self, name, getattr(row, name))
        self.last_at, self.last_job_id, self.next_at = row.last_at, row.last_job_id, row.next_at
        changed = {name for name in TIMING if getattr(self, name) != getattr(row, name)}
        if not changed:
            return set()
        # One that has become wrong, as the zones on this machine have changed, can be paused all the same.
        self.next_at = None if changed == {"paused"} and self.paused else self._next()
        return {"next_at"}

    def _next(self) -> datetime | None:
        found = cron.next_after(self.cron, self.zone, self._since())
        return None if self.paused else found

    def _since(self) -> datetime:
        """Now; or the last tick, if it was enqueued ahead of its time: it must not be enqueued again."""
        now = clock.now()
        if self.last_at is not None and now < self.last_at <= now + timedelta(seconds=AHEAD + CLOCKS):
            return self.last_at
        return now


def _call_of(text: str) -> tuple[list[Any], dict[str, Any]]:
    try:
        args, kwargs = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        args, kwargs = None, None
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise InvalidArguments(
            "arguments is not JSON of a list and an object; use the positional and the keyword arguments, such as"
            ' [[1, "two"], {"x": 3}], or [[], {}] for none.'
        )
    return args, kwargs
