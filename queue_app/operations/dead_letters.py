"""Run dead jobs again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import QuerySet

from queue_app.domain.rights import Right
from queue_app.lifecycle import operate
from queue_app.lifecycle.operate import Answer
from queue_app.models import DeadLetter
from queue_app.models.sql import write_alias
from queue_app.operations import audit
from queue_app.operations.actor import Actor


def replay(actor: Actor, letters: Sequence[Any], *, reason: str = "") -> Answer:
    """Run the jobs of dead letters again.

    Args:
        letters: primary keys; those already replayed are left out.

    Raises:
        NotPermitted: the actor lacks `replay_deadletter`.
    """
    actor.require(Right.REPLAY_DEADLETTER)
    rows = DeadLetter.objects.filter(pk__in=letters)
    with audit.for_ids(actor, "replay", "deadletter", letters, reason) as result:
        return _fill_result(result, operate.replay(rows, user=actor.signal_user))


def replay_jobs(actor: Actor, ids: Sequence[Any], *, reason: str = "") -> Answer:
    """Run failed jobs again.

    Args:
        ids: of the jobs.

    Raises:
        NotPermitted: the actor lacks `replay_deadletter`.
    """
    actor.require(Right.REPLAY_DEADLETTER)
    with audit.for_ids(actor, "replay", "job", ids, reason) as result:
        return _fill_result(result, operate.replay(jobs=ids, user=actor.signal_user))


def replay_matching(
    actor: Actor,
    letters: QuerySet[DeadLetter],
    criteria: Mapping[str, Any],
    *,
    limit: int | None = None,
    reason: str = "",
) -> Answer:
    """Run the jobs of open dead letters again, oldest first.

    Args:
        criteria: field → value by which `letters` were selected; stored in the audit event.
        limit: most that are changed; None: no limit.

    Raises:
        NotPermitted: the actor lacks `replay_deadletter`.
    """
    actor.require(Right.REPLAY_DEADLETTER)
    with audit.bulk(actor, "replay", "deadletter", criteria, limit=limit, reason=reason) as result:
        return _fill_result(result, operate.replay(letters, limit=limit, user=actor.signal_user))


def count_matching(actor: Actor, letters: QuerySet[DeadLetter], *, limit: int | None = None) -> int:
    """How many `replay_matching` would run again.

    Raises:
        NotPermitted: the actor lacks `replay_deadletter`.
    """
    actor.require(Right.REPLAY_DEADLETTER)
    return letters.using(write_alias())[:limit].count()


def _fill_result(result: audit.Result, answer: Answer) -> Answer:
    result.count, result.changed = len(answer.done), answer.closed > 0
    return answer
