"""Run dead jobs again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from queue_app.lifecycle import operate
from queue_app.lifecycle.operate import Answer
from queue_app.models import DeadLetter
from queue_app.models.bulk import write_alias
from queue_app.operations import audit
from queue_app.operations.actor import Actor, Right


def replay(actor: Actor, letters: Sequence[Any], *, reason: str = "") -> Answer:
    """Run the jobs of dead letters again.

    Args:
        letters: primary keys; those already replayed are left out.

    Raises:
        NotPermitted: the actor lacks `replay_deadletter`.
    """
    rows = DeadLetter.objects.filter(pk__in=letters)
    return _replay(actor, "deadletter", letters, lambda: operate.replay(rows, user=actor.who), reason)


def replay_jobs(actor: Actor, ids: Sequence[Any], *, reason: str = "") -> Answer:
    """Run failed jobs again.

    Args:
        ids: of the jobs.

    Raises:
        NotPermitted: the actor lacks `replay_deadletter`.
    """
    return _replay(actor, "job", ids, lambda: operate.replay(jobs=ids, user=actor.who), reason)


def replay_matching(
    actor: Actor,
    letters: QuerySet[DeadLetter],
    chosen: Mapping[str, Any],
    *,
    limit: int | None = None,
    reason: str = "",
) -> Answer:
    """Run the jobs of open dead letters again, oldest first.

    Args:
        chosen: in words what `letters` is in SQL, for the audit.
        limit: at most so many.

    Raises:
        NotPermitted: the actor lacks `replay_deadletter`.
    """
    actor.demand(Right.REPLAY_DEADLETTER)
    more = {"limit": limit} if limit else {}
    with audit.bulk(actor, "replay", "deadletter", {**chosen, **more}, reason) as result:
        answer = operate.replay(letters, limit=limit, user=actor.who)
        result.count = len(answer.done)
    return answer


def count_matching(actor: Actor, letters: QuerySet[DeadLetter], *, limit: int | None = None) -> int:
    """How many `replay_matching` would run again.

    Raises:
        NotPermitted: the actor lacks `replay_deadletter`.
    """
    actor.demand(Right.REPLAY_DEADLETTER)
    return letters.using(write_alias())[:limit].count()


def _replay(actor: Actor, kind: str, pks: Sequence[Any], act: Callable[[], Answer], reason: str) -> Answer:
    actor.demand(Right.REPLAY_DEADLETTER)
    if len(pks) != 1:
        with audit.bulk(actor, "replay", kind, audit.chosen_ids(pks), reason) as result:
            answer = act()
            result.count = len(answer.done)
        return answer
    with transaction.atomic(using=write_alias()):
        audit.write(actor, "replay", kind, pks[0], reason=reason)
        answer = act()
        if not answer.done:  # nothing was done, so nothing is told
            transaction.set_rollback(True, using=write_alias())
    return answer
