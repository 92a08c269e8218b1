"""Schedules as JSON: what is shown of them, and what is taken."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from queue_app import conf
from queue_app.api.bodies import StrictSerializer
from queue_app.api.fields import (
    PriorityField,
    ReasonField,
    StrictBooleanField,
    StrictCharField,
    StrictChoiceField,
    StrictDictField,
    StrictIntegerField,
    StrictListField,
)
from queue_app.domain import serialization
from queue_app.exceptions import InvalidArguments, InvalidOption
from queue_app.models import Schedule
from queue_app.models.schedule import Missed
from queue_app.queries.payload import MASK, MASKED
from queue_app.tasks import registry

#: Most runs that `upcoming` tells.
MAX_UPCOMING = 100


class ScheduleSerializer(serializers.ModelSerializer[Schedule]):
    """A schedule in a list: without its arguments, which may be large."""

    url = serializers.HyperlinkedIdentityField(view_name="queue_app_api:schedule-detail")

    class Meta:
        model = Schedule
        fields: list[str] = [
            "id",
            "url",
            "name",
            "task",
            "cron",
            "zone",
            "queue",
            "priority",
            "jitter",
            "missed",
            "paused",
            "next_at",
            "last_at",
            "last_job_id",
            "error",
            "created_at",
        ]
        read_only_fields = fields


class ScheduleDetailSerializer(ScheduleSerializer):
    """One schedule, with what its task is called with, and whether this process knows the task."""

    args = serializers.SerializerMethodField()
    kwargs = serializers.SerializerMethodField()
    masked = serializers.SerializerMethodField()
    task_known = serializers.SerializerMethodField()

    class Meta(ScheduleSerializer.Meta):
        fields = [*ScheduleSerializer.Meta.fields, "args", "kwargs", "masked", "task_known"]
        read_only_fields = fields

    def get_args(self, schedule: Schedule) -> Any:
        return MASK if self.get_masked(schedule) else arguments_of(schedule)[0]

    def get_kwargs(self, schedule: Schedule) -> Any:
        return MASK if self.get_masked(schedule) else arguments_of(schedule)[1]

    def get_masked(self, schedule: Schedule) -> str | None:
        """Why something is masked."""
        return None if self.context["may_see_payload"] else MASKED

    def get_task_known(self, schedule: Schedule) -> bool:
        return registry.may_know(schedule.task)  # nothing is imported for a look


class ScheduleDefinition(StrictSerializer):
    """What a schedule is made of; given an instance, what of it is to change. Only the JSON is checked here, and the
    arguments: the model has the rules of the other values."""

    name = StrictCharField(max_length=100, help_text="1–100 characters; no two schedules have the same name.")
    task = StrictCharField(max_length=255, help_text="Dotted path of the task.")
    args = StrictListField(required=False, help_text="Positional arguments of the task.")
    kwargs = StrictDictField(required=False, help_text="Keyword arguments of the task.")
    cron = StrictCharField(
        expected="text, such as '30 6 * * MON-FRI'",
        max_length=100,
        help_text="Minute, hour, day of month, month, day of week; or @hourly, @daily and the like.",
    )
    zone = StrictCharField(
        expected="text, such as 'Europe/Berlin'",
        max_length=64,
        required=False,
        help_text="Time zone by whose clocks it is due; the project's, unless given.",
    )
    queue = StrictCharField(
        expected="text, or null for the task's own",
        max_length=64,
        required=False,
        allow_null=True,
        help_text="Null: the task's own.",
    )
    priority = PriorityField(expected="a number or a name, or null for the task's own")
    jitter = StrictIntegerField(
        expected="a whole number of seconds",
        min_value=0,
        max_value=86_400,
        required=False,
        help_text="Seconds: each run starts at a random moment within so many after its time.",
    )
    missed = StrictChoiceField(
        choices=Missed.choices,
        expected="'skip', 'once' or 'all'",
        required=False,
        help_text="What is done about runs whose time passed while no process could start them.",
    )
    paused = StrictBooleanField(required=False, help_text="Whether it is not due.")
    reason = ReasonField()

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """The fields of the model; `arguments` stands for `args` and `kwargs`."""
        values: dict[str, Any] = {}
        found: Any = {}
        try:
            values = super().to_internal_value(data)
        except serializers.ValidationError as error:
            found = error.detail
        call = {name: data[name] for name in ("args", "kwargs") if name in data}
        if call and found.keys().isdisjoint(call):
            try:
                values["arguments"] = self._arguments(**call)
            except InvalidArguments as error:
                found["kwargs" if "kwargs" in str(error) else "args"] = [str(error)]
        if found:
            raise serializers.ValidationError(found)
        return {name: value for name, value in values.items() if name not in call}

    def _arguments(self, args: Any = None, kwargs: Any = None) -> str:
        old: Any = (None, None) if self.instance is None else arguments_of(self.instance)
        args, kwargs = (old[0] if args is None else args), (old[1] if kwargs is None else kwargs)
        return serialization.dump_arguments(args or [], kwargs or {}, conf.get().PAYLOAD_LIMIT)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MAX_UPCOMING):
        raise InvalidOption(f"Use a whole number from 1 to {MAX_UPCOMING}.")
    return int(text)


class UpcomingQuery(StrictSerializer):
    """How many runs to tell."""

    count = StrictIntegerField(
        rule=_count, min_value=1, max_value=MAX_UPCOMING, default=5, help_text="At most so many runs."
    )


def arguments_of(schedule: Schedule) -> tuple[Any, Any]:
    """The arguments of a schedule; (None, None) if they are broken, as its `error` says."""
    try:
        return schedule.call
    except InvalidArguments:
        return None, None
