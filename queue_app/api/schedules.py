"""/schedules/: what runs again and again; written, paused, resumed, run now, and when it is due next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from django.core.exceptions import ValidationError as ModelError
from django.db import IntegrityError, transaction
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from queue_app import conf, registry, serialization
from queue_app.api.errors import Conflict
from queue_app.api.filters import ScheduleFilter
from queue_app.api.parsers import fields, reason_of, refuse_unknown
from queue_app.api.records import RecordView
from queue_app.exceptions import InvalidArguments, InvalidOption, NotPermitted, QueueAppError
from queue_app.models import Schedule
from queue_app.models.bulk import write_alias
from queue_app.names import priority_of
from queue_app.operations import schedules as operations
from queue_app.operations.actor import Right
from queue_app.queries.payload import MASK, MASKED

#: Fields of a request, with the JSON that they take.
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "name": ((str,), "text"),
    "task": ((str,), "text"),
    "args": ((list,), "a list, such as [1, 2]"),
    "kwargs": ((dict,), 'an object, such as {"x": 1}'),
    "cron": ((str,), "text, such as '30 6 * * MON-FRI'"),
    "zone": ((str,), "text, such as 'Europe/Berlin'"),
    "queue": ((str, type(None)), "text, or null for the task's own"),
    "priority": ((int, str, type(None)), "a number or a name, or null for the task's own"),
    "jitter": ((int,), "a whole number of seconds"),
    "missed": ((str,), "'skip', 'once' or 'all'"),
    "paused": ((bool,), "true or false"),
}
FIELDS = (*KINDS, "reason")
REQUIRED = ("name", "task", "cron")
#: Most runs that `upcoming` tells.
MOST = 100


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


class SchedulePageSerializer(ScheduleSerializer):
    """One schedule, with what its task is called with, and whether this process knows the task."""

    args = serializers.SerializerMethodField()
    kwargs = serializers.SerializerMethodField()
    masked = serializers.SerializerMethodField()
    task_known = serializers.SerializerMethodField()

    class Meta(ScheduleSerializer.Meta):
        fields = [*ScheduleSerializer.Meta.fields, "args", "kwargs", "masked", "task_known"]
        read_only_fields = fields

    def get_args(self, schedule: Schedule) -> Any:
        return MASK if self.get_masked(schedule) else self._call(schedule)[0]

    def get_kwargs(self, schedule: Schedule) -> Any:
        return MASK if self.get_masked(schedule) else self._call(schedule)[1]

    def get_masked(self, schedule: Schedule) -> str | None:
        """Why something is masked."""
        return None if self.context["may_see_payload"] else MASKED

    def get_task_known(self, schedule: Schedule) -> bool:
        return registry.may_know(schedule.task)  # nothing is imported for a look

    @staticmethod
    def _call(schedule: Schedule) -> tuple[Any, Any]:
        try:
            return schedule.call
        except InvalidArguments:  # its `error` says so
            return None, None


class ScheduleViewSet(RecordView[Schedule]):
    """Schedules, newest first."""

    queryset = Schedule.objects.all()
    serializer_class = ScheduleSerializer
    page_serializer_class = SchedulePageSerializer
    filterset_class = ScheduleFilter
    rights = {
        "list": Right.VIEW_SCHEDULE,
        "retrieve": Right.VIEW_SCHEDULE,
        "upcoming": Right.VIEW_SCHEDULE,
        **dict.fromkeys(
            ("create", "partial_update", "destroy", "pause", "resume", "run"), Right.MANAGE_SCHEDULE
        ),
    }

    def create(self, request: Request) -> Response:
        """Create one. 201, with its address in `Location`."""
        given = fields(request, FIELDS)
        reason = reason_of(given)
        schedule = Schedule(**_checked(given, REQUIRED))
        with _faults_named(schedule, None):
            operations.create(self.actor, schedule, reason=reason)
        page = self._page_of(schedule)
        headers = {"Location": page.data["url"]}
        return Response(page.data, status=status.HTTP_201_CREATED, headers=headers)

    def partial_update(self, request: Request, pk: str) -> Response:
        """Change what is given, and nothing else."""
        schedule = self.get_object()
        given = dict(fields(request, FIELDS))
        reason = reason_of(given)
        if "args" in given or "kwargs" in given:  # one of them may stay
            old = SchedulePageSerializer._call(schedule)
            given = {"args": old[0] or [], "kwargs": old[1] or {}} | given
        data = _checked(given)
        for name, value in data.items():
            setattr(schedule, name, value)
        with _faults_named(schedule, list(data)):
            operations.change(self.actor, schedule, list(data), reason=reason)
        return self._page_of(schedule)

    def destroy(self, request: Request, pk: str) -> Response:
        """Delete it; jobs that it has enqueued stay."""
        reason = reason_of(fields(request, ("reason",)))
        operations.delete(self.actor, self.get_object(), reason=reason)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Let it be due no more."""
        return self._page_of(self._do(operations.pause))

    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """Let it be due again, from now on."""
        return self._page_of(self._do(operations.resume))

    @action(detail=True, methods=["post"])
    def run(self, request: Request, pk: str) -> Response:
        """Enqueue a run now. 201, with the job's address in `Location`."""
        job_id = self._do(operations.run_now)
        place = self.reverse_action("list").removesuffix("schedules/") + f"jobs/{job_id}/"
        return Response(
            {"job": job_id, "job_url": place}, status.HTTP_201_CREATED, headers={"Location": place}
        )

    @action(detail=True)
    def upcoming(self, request: Request, pk: str) -> Response:
        """When it is due next, by the clocks of its zone; as if it were not paused."""
        refuse_unknown(request.query_params, ("count",))
        text = request.query_params.get("count", "5")
        if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MOST):
            raise ValidationError({"count": [f"Use a whole number from 1 to {MOST}."]})
        schedule = self.get_object()
        try:
            times = schedule.upcoming(int(text))
        except QueueAppError as error:
            raise Conflict(str(error)) from None
        return Response({"paused": schedule.paused, "upcoming": [at.isoformat() for at in times]})

    def _do(self, verb: Any) -> Any:
        reason = reason_of(fields(self.request, ("reason",)))
        try:
            return verb(self.actor, self.get_object(), reason=reason)
        except NotPermitted:
            raise
        except QueueAppError as error:
            raise Conflict(str(error)) from None

    def _page_of(self, schedule: Schedule) -> Response:
        data = SchedulePageSerializer(schedule, context=self.get_serializer_context()).data
        return Response(self.as_far_as_seen(data, Right.VIEW_SCHEDULE))

    def get_serializer_context(self) -> dict[str, Any]:
        may_see = self.actor.may(Right.VIEW_PAYLOAD)
        return {**super().get_serializer_context(), "may_see_payload": may_see}


def _checked(given: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a schedule's fields; nothing is converted that was not meant.

    Raises:
        ValidationError: names each field that is missing, or is not the JSON that it takes.
    """
    given = {name: value for name, value in given.items() if name != "reason"}
    found = {name: ["This field is required."] for name in required if name not in given}
    for name, value in given.items():
        kinds, words = KINDS[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            found[name] = [f"Use {words}."]
    data = {name: value for name, value in given.items() if name not in ("args", "kwargs")}
    if not found.keys() & {"args", "kwargs"} and given.keys() & {"args", "kwargs"}:
        args, kwargs = given.get("args", []), given.get("kwargs", {})
        try:
            data["arguments"] = serialization.dump_arguments(args, kwargs, conf.get().PAYLOAD_LIMIT)
        except InvalidArguments as error:
            found["kwargs" if "kwargs" in str(error) else "args"] = [str(error)]
    if data.get("priority") is not None and "priority" not in found:
        try:
            data["priority"] = priority_of(data["priority"])
        except InvalidOption as error:
            found["priority"] = [str(error)]
    if found:
        raise ValidationError(found)
    return data


@contextlib.contextmanager
def _faults_named(schedule: Schedule, names: list[str] | None) -> Iterator[None]:
    """Check a schedule, all of a new one (None) or the fields of these names, and answer what is wrong when it is
    written in the block."""
    unchanged = set() if names is None else {f.name for f in Schedule._meta.concrete_fields} - set(names)
    try:
        schedule.full_clean(exclude=unchanged)
        with transaction.atomic(using=write_alias()):
            yield
    except NotPermitted:
        raise
    except ModelError as error:
        raise ValidationError(error.message_dict) from None
    except IntegrityError:  # another request was a moment earlier
        raise Conflict(f"There is a schedule named {schedule.name!r} already.") from None
    except (
        QueueAppError
    ) as error:  # what was not changed is wrong, so that it cannot be said when it is due next
        raise Conflict(str(error)) from None
