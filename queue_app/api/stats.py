"""/stats/: depth, waiting time and throughput of the queues over the last hour, from the samples of a duty."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rest_framework import serializers, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from queue_app import clock
from queue_app.api.base import StaffView
from queue_app.api.bodies import ReadOnlySerializer, StrictSerializer
from queue_app.api.fields import (
    StrictBooleanField,
    StrictCharField,
    StrictDateTimeField,
    StrictDictField,
    StrictFloatField,
    StrictIntegerField,
)
from queue_app.domain.rights import Right
from queue_app.exceptions import InvalidOption
from queue_app.queries import stats

#: Seconds of the span, unless the request says otherwise, and at most.
DEFAULT_SPAN_SECONDS, MAX_SPAN_SECONDS = 300.0, 3_600.0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 1 <= seconds <= MAX_SPAN_SECONDS:
        raise InvalidOption(f"Use a number of seconds from 1 to {MAX_SPAN_SECONDS:g}, not {text[:40]!r}.")
    return seconds


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidOption(f"Use true or false, not {text[:40]!r}.")
    return text == "true"


class StatsQuery(StrictSerializer):
    """The span, and whether its samples are told."""

    seconds = StrictFloatField(
        rule=_seconds,
        min_value=1,
        max_value=MAX_SPAN_SECONDS,
        default=DEFAULT_SPAN_SECONDS,
        help_text="The span that ends with the latest sample.",
    )
    samples = StrictBooleanField(
        rule=_flag, default=False, help_text="With the samples that it is made from."
    )


class EpochField(StrictDateTimeField):
    """A time that is kept as epoch seconds."""

    def to_representation(self, value: float) -> datetime:
        return clock.from_seconds(value)


class MillisecondsField(StrictFloatField):
    """Seconds, to the millisecond."""

    def to_representation(self, value: float) -> float:
        return round(value, 3)


class QueueRateSerializer(ReadOnlySerializer):
    """A queue in the latest sample, and over the span."""

    name = StrictCharField()
    waiting = StrictIntegerField(source="now.waiting")
    due_later = StrictIntegerField(source="now.due_later", help_text="Delayed, and their time is near.")
    held = StrictIntegerField(source="now.held", help_text="Claimed and not settled.")
    set_aside = StrictIntegerField(source="now.set_aside", help_text="No worker has known their task.")
    oldest_waiting_seconds = StrictFloatField(source="now.oldest", allow_null=True)
    ended = StrictDictField(child=serializers.IntegerField(), help_text="Attempts, by state.")
    per_second = StrictDictField(
        child=serializers.FloatField(), allow_null=True, help_text="The same for each second."
    )
    mean_run_seconds = StrictFloatField(source="mean_run", allow_null=True)


class QueueStatsSerializer(ReadOnlySerializer):
    """A queue in a sample."""

    waiting = StrictIntegerField()
    due_later = StrictIntegerField()
    held = StrictIntegerField()
    set_aside = StrictIntegerField()
    oldest = StrictFloatField(allow_null=True)
    ended = StrictDictField(child=serializers.IntegerField(), help_text="Attempts, by state.")
    run_ms = StrictIntegerField(help_text="Milliseconds that these ran.")


class SampleSerializer(ReadOnlySerializer):
    """The queues at one moment, idle ones left out."""

    at = EpochField()
    seconds = StrictFloatField(help_text="The time before it that `ended` and `run_ms` are of.")
    queues = serializers.DictField(child=QueueStatsSerializer(), help_text="By name.")


class StatsSerializer(ReadOnlySerializer):
    """The span; without its samples, if the context says so."""

    at = EpochField(allow_null=True, help_text="When the latest sample was taken.")
    seconds = MillisecondsField(help_text="How long the span really is.")
    queues = QueueRateSerializer(source="lines", many=True)
    samples = SampleSerializer(many=True, required=False)

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        if not self.context.get("samples", True):
            del fields["samples"]
        return fields


class StatsViewSet(StaffView, viewsets.ViewSet):
    """Figures of all queues. 503 while Redis, which keeps them, is away."""

    serializer_class = StatsSerializer
    rights = {"list": Right.VIEW_QUEUE}
    queries = {"list": StatsQuery}

    def list(self, request: Request) -> Response:
        """The latest figures and the throughput over the last `seconds`; on request, the samples of that time."""
        given = self.query()
        found = stats.over(given["seconds"])
        return Response(StatsSerializer(found, context={"samples": given["samples"]}).data)
