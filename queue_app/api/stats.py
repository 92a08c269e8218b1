"""/stats/: depth, waiting time and throughput of the queues over the last hour, from the samples of a duty."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from queue_app import clock
from queue_app.api.base import StaffView
from queue_app.api.bodies import StrictSerializer
from queue_app.api.fields import StrictBooleanField, StrictFloatField
from queue_app.exceptions import InvalidOption
from queue_app.maintenance import rates
from queue_app.operations.actor import Right

#: Seconds of the span, unless the request says otherwise, and at most.
SPAN, MOST = 300.0, 3_600.0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 1 <= seconds <= MOST:
        raise InvalidOption(f"Use a number of seconds from 1 to {MOST:g}, not {text[:40]!r}.")
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
        max_value=MOST,
        default=SPAN,
        help_text="The span that ends with the latest sample.",
    )
    samples = StrictBooleanField(
        rule=_flag, default=False, help_text="With the samples that it is made from."
    )


class StatsViewSet(StaffView, viewsets.ViewSet):
    """Figures of all queues. 503 while Redis, which keeps them, is away."""

    rights = {"list": Right.VIEW_QUEUE}
    queries = {"list": StatsQuery}

    def list(self, request: Request) -> Response:
        """The latest figures and the throughput over the last `seconds`; on request, the samples of that time."""
        given = self.query()
        return Response(_as_json(rates.over(given["seconds"]), given["samples"]))


def _as_json(found: rates.Rates, samples: bool) -> dict[str, Any]:
    last = found.samples[-1] if found.samples else None
    data: dict[str, Any] = {
        "at": clock.from_seconds(last.at) if last else None,
        "seconds": round(found.seconds, 3),
        "queues": [
            {
                "name": line.name,
                "waiting": line.now.waiting,
                "due_later": line.now.due_later,
                "held": line.now.held,
                "set_aside": line.now.set_aside,
                "oldest_waiting_seconds": line.now.oldest,
                "ended": line.ended,
                "per_second": line.per_second,
                "mean_run_seconds": line.mean_run,
            }
            for line in found.lines
        ],
    }
    if samples:
        data["samples"] = [
            {
                "at": clock.from_seconds(sample.at),
                "seconds": sample.seconds,
                "queues": {name: asdict(one) for name, one in sample.queues.items()},
            }
            for sample in found.samples
        ]
    return data
