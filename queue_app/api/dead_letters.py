"""/dead-letters/: look at them, run them again."""

from __future__ import annotations

import re
from typing import Any

from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from queue_app.api.bodies import ReasonSerializer, StrictSerializer
from queue_app.api.errors import Conflict
from queue_app.api.fields import ReasonField, StrictBooleanField, StrictCharField, StrictIntegerField
from queue_app.api.filters import DeadLetterFilter
from queue_app.api.parsers import DEFAULT_JOBS, MAX_JOBS
from queue_app.api.records import RecordView
from queue_app.api.serializers import DeadLetterDetailSerializer, DeadLetterSerializer
from queue_app.domain.names import check_queue
from queue_app.domain.rights import Right
from queue_app.exceptions import InvalidOption
from queue_app.models import DeadLetter
from queue_app.operations import dead_letters as operations
from queue_app.queries import selection


def _limit(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_JOBS:
        raise InvalidOption(f"Use a whole number from 1 to {MAX_JOBS}.")
    return value


def _task(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 255 or "\x00" in value:
        raise InvalidOption("Use the dotted path of a task.")
    return value


def _fingerprint(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{12}", value):
        raise InvalidOption("Use the 12 hexadecimal digits that dead letters show.")
    return value


def _since(value: Any) -> Any:
    return selection.parse_since(value if isinstance(value, str) else repr(value))


class DeadLetterSelection(StrictSerializer):
    """Open dead letters; all of them, if nothing is given."""

    task = StrictCharField(
        rule=_task, max_length=255, required=False, allow_null=True, help_text="Dotted path of their task."
    )
    queue = StrictCharField(
        rule=check_queue,
        max_length=64,
        required=False,
        allow_null=True,
        help_text="The queue that their jobs were in.",
    )
    fingerprint = StrictCharField(
        rule=_fingerprint,
        min_length=12,
        max_length=12,
        required=False,
        allow_null=True,
        help_text="Of what they died of: 12 hexadecimal digits.",
    )
    since = StrictCharField(
        rule=_since,
        required=False,
        allow_null=True,
        help_text="Not older than this: an ISO date or time, or an age such as 2h or 3d.",
    )
    limit = StrictIntegerField(
        rule=_limit,
        min_value=1,
        max_value=MAX_JOBS,
        default=DEFAULT_JOBS,
        allow_null=True,
        help_text="At most so many, the oldest.",
    )
    reason = ReasonField()
    dry_run = StrictBooleanField(default=False, help_text="Only count them.")

    def criteria(self) -> dict[str, Any]:
        """What was given to choose by."""
        given = self.validated_data
        by = ("task", "queue", "fingerprint", "since")
        return {name: given[name] for name in by if given.get(name) is not None}


class DeadLetterViewSet(RecordView[DeadLetter]):
    """Dead letters: the open ones, unless the filter `replayed` says otherwise."""

    queryset = DeadLetter.objects.all()
    serializer_class = DeadLetterSerializer
    detail_serializer_class = DeadLetterDetailSerializer
    filterset_class = DeadLetterFilter
    rights = {
        "list": Right.VIEW_DEADLETTER,
        "retrieve": Right.VIEW_DEADLETTER,
        "requeue": Right.REPLAY_DEADLETTER,
        "replay": Right.REPLAY_DEADLETTER,
    }
    bodies = {"requeue": ReasonSerializer, "replay": DeadLetterSelection}

    @action(detail=True, methods=["post"])
    def requeue(self, request: Request, pk: str) -> Response:
        """Run its job again. 409 if that was done before."""
        reason = self.body().validated_data["reason"]
        answer = operations.replay(self.actor, [self.get_object().pk], reason=reason)
        if not answer.done:
            raise Conflict("Not requeued: it was replayed before, or its job is no longer failed.")
        data = self.get_serializer(self.get_object()).data
        return Response(self.visible_fields(data, Right.VIEW_DEADLETTER, "replayed_at"))

    @action(detail=False, methods=["post"])
    def replay(self, request: Request) -> Response:
        """Run many again, oldest first: `{task, queue, fingerprint, since, limit, reason, dry_run}`."""
        body: DeadLetterSelection = self.body()
        given, chosen = body.validated_data, body.criteria()
        limit, dry_run, letters = (
            given["limit"] or DEFAULT_JOBS,
            given["dry_run"],
            selection.dead_letters(**chosen),
        )
        if dry_run:
            count = operations.count_matching(self.actor, letters, limit=limit)
        else:
            words = {name: str(value) for name, value in chosen.items()}
            answer = operations.replay_matching(
                self.actor, letters, words, limit=limit, reason=given["reason"]
            )
            count = len(answer.done)
        return Response({"dry_run": dry_run, "replayed": 0 if dry_run else count, "would_replay": count})
