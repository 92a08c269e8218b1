"""/dead-letters/: look at them, run them again."""

from __future__ import annotations

import re
from typing import Any

from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from queue_app.api.errors import Conflict
from queue_app.api.filters import DeadLetterFilter
from queue_app.api.parsers import LIMIT, MOST, fields, reason_of
from queue_app.api.records import RecordView
from queue_app.api.serializers import DeadLetterPageSerializer, DeadLetterSerializer
from queue_app.exceptions import InvalidOption
from queue_app.models import DeadLetter
from queue_app.names import check_queue
from queue_app.operations import dead_letters as operations
from queue_app.operations.actor import Right
from queue_app.queries import selection


class DeadLetterViewSet(RecordView[DeadLetter]):
    """Dead letters: the open ones, unless the filter `replayed` says otherwise."""

    queryset = DeadLetter.objects.all()
    serializer_class = DeadLetterSerializer
    page_serializer_class = DeadLetterPageSerializer
    filterset_class = DeadLetterFilter
    rights = {
        "list": Right.VIEW_DEADLETTER,
        "retrieve": Right.VIEW_DEADLETTER,
        "requeue": Right.REPLAY_DEADLETTER,
        "replay": Right.REPLAY_DEADLETTER,
    }

    @action(detail=True, methods=["post"])
    def requeue(self, request: Request, pk: str) -> Response:
        """Run its job again. 409 if that was done before."""
        reason = reason_of(fields(request, ("reason",)))
        answer = operations.replay(self.actor, [self.get_object().pk], reason=reason)
        if not answer.done:
            raise Conflict("Not requeued: it was replayed before, or its job is no longer failed.")
        data = self.get_serializer(self.get_object()).data
        return Response(self.as_far_as_seen(data, Right.VIEW_DEADLETTER, "replayed_at"))

    @action(detail=False, methods=["post"])
    def replay(self, request: Request) -> Response:
        """Run many again, oldest first: `{task, queue, fingerprint, since, limit, reason, dry_run}`."""
        given = fields(request, ("task", "queue", "fingerprint", "since", "limit", "reason", "dry_run"))
        limit, dry_run, chosen = _checked(given)
        letters = selection.dead_letters(**chosen)
        if dry_run:
            count = operations.count_matching(self.actor, letters, limit=limit)
        else:
            words, reason = {name: str(value) for name, value in chosen.items()}, reason_of(given)
            answer = operations.replay_matching(self.actor, letters, words, limit=limit, reason=reason)
            count = len(answer.done)
        return Response({"dry_run": dry_run, "replayed": 0 if dry_run else count, "would_replay": count})


def _checked(given: Any) -> tuple[int, bool, dict[str, Any]]:
    """The limit, whether it is a dry run, and what to choose by."""
    wrong: dict[str, list[str]] = {}
    limit, dry_run = given.get("limit"), given.get("dry_run", False)
    limit = LIMIT if limit is None else limit
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
        wrong["limit"] = [f"Use a whole number from 1 to {MOST}."]
    if not isinstance(dry_run, bool):
        wrong["dry_run"] = ["Use true or false."]
    chosen: dict[str, Any] = {}
    for name, rule in (
        ("task", _task),
        ("queue", check_queue),
        ("fingerprint", _fingerprint),
        ("since", _since),
    ):
        if (value := given.get(name)) is not None:
            try:
                chosen[name] = rule(value)
            except InvalidOption as error:
                wrong[name] = [str(error)]
    if wrong:
        raise ValidationError(wrong)
    return limit, dry_run, chosen


def _task(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 255 or "\x00" in value:
        raise InvalidOption("Use the dotted path of a task.")
    return value


def _fingerprint(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{12}", value):
        raise InvalidOption("Use the 12 hexadecimal digits that dead letters show.")
    return value


def _since(value: Any) -> Any:
    return selection.since(value if isinstance(value, str) else repr(value))
