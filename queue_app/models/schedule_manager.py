"""Defining schedules in code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import models

from queue_app import conf
from queue_app.domain import options, serialization
from queue_app.domain.names import priority_of
from queue_app.exceptions import InvalidArguments
from queue_app.models.schedule_fields import Missed, default_zone

if TYPE_CHECKING:
    from queue_app.models.schedule import Schedule


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
        """Create or change the schedule of this name. It is made for code that runs at each deployment.

        An existing schedule stays paused if it is paused. Its next tick stays, unless the cron expression or the zone
        changes.

        Args:
            task: a task, or its dotted path.
            args, kwargs: what the task is called with.
            more: `queue`, `priority` (a number, or a name such as `high`), `zone`, `jitter` (seconds), `missed`.
                Omitted ones have their defaults.

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
