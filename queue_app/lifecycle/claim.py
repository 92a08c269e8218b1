"""Claim: Redis decides, in one script; what a delivery still needs is read from the record, in one query for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import redis

from queue_app.dispatch import queues
from queue_app.domain import serialization
from queue_app.domain.delivery import Delivery
from queue_app.models import Attempt, Job
from queue_app.models.sql import write_alias


class Claimed:
    """The answer to a claim over several queues.

    Attributes:
        deliveries: in the order to run them.
        at: the time of the claim on the clock of Redis, epoch seconds.
        next_due: when the next delayed job of these queues may start, or None.
    """

    __slots__ = ("at", "deliveries", "next_due")

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.at = 0.0
        self.next_due: float | None = None


def claim(
    client: redis.Redis, names: list[str], holder: str, count: int, taken: Sequence[Delivery] = ()
) -> Claimed:
    """Claim up to `count` jobs from these queues, first one first.

    Args:
        taken: what the child has just claimed of jobs set aside (see dispatch.unknown): they count, and come first.

    Raises:
        Unavailable (see dispatch.connection): Redis cannot be reached.
    """
    result = Claimed()
    result.deliveries += taken
    if len(taken) >= count:
        return result
    for name in names:
        found, result.at, due = queues.claim(client, name, holder, count - len(result.deliveries))
        result.deliveries += found
        if due is not None and (result.next_due is None or due < result.next_due):
            result.next_due = due
        if len(result.deliveries) >= count:
            break
    return result


def complete(deliveries: list[Delivery]) -> list[Delivery]:
    """Fill in what Redis does not carry: large arguments, and the attempts before a retry.

    Returns:
        Deliveries whose row has gone (pruned or deleted): not to be run.
    """
    large = [d for d in deliveries if d.args is None]
    repeated = [d for d in deliveries if d.number > 1]
    gone: list[Delivery] = []
    if large:
        rows = dict(
            Job.objects.using(write_alias()).filter(pk__in=[d.id for d in large]).values_list("pk", "payload")
        )
        for d in large:
            payload = rows.get(UUID(d.id))
            if payload is None:
                gone.append(d)
            else:
                d.args, d.kwargs = serialization.load(payload)
    if repeated:
        earlier: dict[UUID, list[Any]] = {}
        for job_id, worker_id, error_class, traceback in (
            Attempt.objects.using(write_alias())
            .filter(job_id__in=[d.id for d in repeated])
            .order_by("job_id", "number")
            .values_list("job_id", "worker_id", "error_class", "traceback")
        ):
            earlier.setdefault(job_id, []).append(
                (str(worker_id) if worker_id else "", error_class, traceback)
            )
        for d in repeated:
            d.history = earlier.get(UUID(d.id), [])
    return gone
