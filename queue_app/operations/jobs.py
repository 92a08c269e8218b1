"""Submit and cancel jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import QuerySet

from queue_app.domain.rights import Right
from queue_app.lifecycle import operate
from queue_app.lifecycle.operate import Answer
from queue_app.models import Job
from queue_app.models.sql import write_alias
from queue_app.models.unfinished import unfinished
from queue_app.operations import audit
from queue_app.operations.actor import Actor
from queue_app.tasks import producer


def submit(actor: Actor, task: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> str:
    """Enqueue a call of a task for an actor. The job's `meta` names the actor, so no audit event is written.

    Returns:
        The job's id.

    Raises:
        NotPermitted: the actor lacks `submit_job`.
    """
    actor.require(Right.SUBMIT_JOB)
    return producer.submit(task, [(list(args), dict(kwargs or {}))], actor.meta)[0]


def cancel(actor: Actor, ids: Sequence[Any], *, reason: str = "") -> Answer:
    """Cancel jobs by their ids; see `lifecycle.operate.cancel`.

    Raises:
        NotPermitted: the actor lacks `operate_job`.
        StoreUnavailable: Redis cannot be reached.
    """
    actor.require(Right.OPERATE_JOB)
    with audit.for_ids(actor, "cancel", "job", ids, reason) as result:
        return _fill_result(result, operate.cancel(ids, user=actor.signal_user))


def cancel_matching(
    actor: Actor,
    jobs: QuerySet[Job],
    criteria: Mapping[str, Any],
    *,
    limit: int | None = None,
    reason: str = "",
) -> Answer:
    """Cancel the unfinished ones of some jobs, oldest first.

    Args:
        criteria: field → value by which `jobs` were selected; stored in the audit event.
        limit: most that are changed; None: no limit.

    Raises:
        NotPermitted: the actor lacks `operate_job`.
        StoreUnavailable: Redis cannot be reached.
    """
    actor.require(Right.OPERATE_JOB)
    with audit.bulk(actor, "cancel", "job", criteria, limit=limit, reason=reason) as result:
        return _fill_result(result, operate.cancel(jobs, limit=limit, user=actor.signal_user))


def count_matching(actor: Actor, jobs: QuerySet[Job], *, limit: int | None = None) -> int:
    """How many `cancel_matching` would look at.

    Raises:
        NotPermitted: the actor lacks `operate_job`.
    """
    actor.require(Right.OPERATE_JOB)
    return len(unfinished(jobs.using(write_alias()), limit))


def _fill_result(result: audit.Result, answer: Answer) -> Answer:
    result.count = len(answer.done) + len(answer.requested)
    result.after = {
        "cancelled": len(answer.done),
        "interrupting": len(answer.requested),
        "refused": len(answer.refused),
    }
    return answer
