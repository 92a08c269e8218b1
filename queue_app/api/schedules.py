"""/schedules/: list, create, change, delete, pause, resume, run now, and the next due times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ValidationError as ModelError
from django.db import IntegrityError, transaction
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from queue_app.api.bodies import ReasonSerializer
from queue_app.api.errors import Conflict
from queue_app.api.filters import ScheduleFilter
from queue_app.api.records import RecordView
from queue_app.api.schedule_serializers import (
    ScheduleDefinition,
    ScheduleDetailSerializer,
    ScheduleSerializer,
    UpcomingQuery,
)
from queue_app.domain.rights import Right
from queue_app.exceptions import NotPermitted, QueueAppError
from queue_app.models import Schedule
from queue_app.models.sql import write_alias
from queue_app.operations import schedules as operations


class ScheduleViewSet(RecordView[Schedule]):
    """Schedules, newest first."""

    queryset = Schedule.objects.all()
    serializer_class = ScheduleSerializer
    detail_serializer_class = ScheduleDetailSerializer
    filterset_class = ScheduleFilter
    rights = {
        "list": Right.VIEW_SCHEDULE,
        "retrieve": Right.VIEW_SCHEDULE,
        "upcoming": Right.VIEW_SCHEDULE,
        **dict.fromkeys(
            ("create", "partial_update", "destroy", "pause", "resume", "run"), Right.MANAGE_SCHEDULE
        ),
    }
    bodies = {
        **dict.fromkeys(("create", "partial_update"), ScheduleDefinition),
        **dict.fromkeys(("destroy", "pause", "resume", "run"), ReasonSerializer),
    }
    queries = {"upcoming": UpcomingQuery}

    def create(self, request: Request) -> Response:
        """Create one. 201, with its address in `Location`."""
        given = self.body().validated_data
        reason = given.pop("reason")
        schedule = Schedule(**given)
        with _validated(schedule, None):
            operations.create(self.actor, schedule, reason=reason)
        page = self._detail(schedule)
        headers = {"Location": page.data["url"]}
        return Response(page.data, status=status.HTTP_201_CREATED, headers=headers)

    def partial_update(self, request: Request, pk: str) -> Response:
        """Change what is given, and nothing else."""
        schedule = self.get_object()
        given = self.body(instance=schedule, partial=True).validated_data
        reason = given.pop("reason", "")
        for name, value in given.items():
            setattr(schedule, name, value)
        with _validated(schedule, list(given)):
            keeps_arguments = not {"args", "kwargs"}.issubset(self.request.data)
            operations.change(
                self.actor, schedule, list(given), keeps_arguments=keeps_arguments, reason=reason
            )
        return self._detail(schedule)

    def destroy(self, request: Request, pk: str) -> Response:
        """Delete it; jobs that it has enqueued stay."""
        reason = self.body().validated_data["reason"]
        operations.delete(self.actor, self.get_object(), reason=reason)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Let it be due no more."""
        return self._detail(self._apply(operations.pause))

    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """Let it be due again, from now on."""
        return self._detail(self._apply(operations.resume))

    @action(detail=True, methods=["post"])
    def run(self, request: Request, pk: str) -> Response:
        """Enqueue a run now. 201, with the job's address in `Location`."""
        job_id = self._apply(operations.run_now)
        place = self.reverse_action("list").removesuffix("schedules/") + f"jobs/{job_id}/"
        return Response(
            {"job": job_id, "job_url": place}, status.HTTP_201_CREATED, headers={"Location": place}
        )

    @action(detail=True)
    def upcoming(self, request: Request, pk: str) -> Response:
        """When it is due next, by the clocks of its zone; as if it were not paused."""
        count, schedule = self.query()["count"], self.get_object()
        try:
            times = schedule.upcoming(count)
        except QueueAppError as error:
            raise Conflict(str(error)) from None
        return Response({"paused": schedule.paused, "upcoming": [at.isoformat() for at in times]})

    def _apply(self, verb: Any) -> Any:
        reason = self.body().validated_data["reason"]
        try:
            return verb(self.actor, self.get_object(), reason=reason)
        except NotPermitted:
            raise
        except QueueAppError as error:
            raise Conflict(str(error)) from None

    def _detail(self, schedule: Schedule) -> Response:
        data = ScheduleDetailSerializer(schedule, context=self.get_serializer_context()).data
        return Response(self.visible_fields(data, Right.VIEW_SCHEDULE))

    def get_serializer_context(self) -> dict[str, Any]:
        may_see = self.actor.may(Right.VIEW_PAYLOAD)
        return {**super().get_serializer_context(), "may_see_payload": may_see}


@contextlib.contextmanager
def _validated(schedule: Schedule, names: list[str] | None) -> Iterator[None]:
    """Validate a schedule, and turn errors of the block that saves it into API errors.

    Args:
        names: the changed fields; None: a new schedule, all of whose fields are checked.

    Raises:
        ValidationError: names the fields that are wrong.
        Conflict: the name is taken, or an unchanged field is wrong.
    """
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
