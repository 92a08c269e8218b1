"""Jobs whose task some worker's code does not know. They are set aside once, until a child that knows it comes.

They wait like other jobs, and a cancellation finds them. They are in no lane, so that no child claims them in vain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import redis

from queue_app.dispatch import keys, scripts
from queue_app.dispatch.holder import counted, fence
from queue_app.domain.delivery import Delivery

#: Most jobs claimed in one call: a script's stack holds some 8,000 values.
MAX_JOBS_PER_CLAIM = 1_000


def requirement_of(task: str, backend: str) -> str:
    """What a child must know to run a job."""
    return f"{backend}|{task}"


def parts_of(requirement: str) -> tuple[str, str]:
    """The task and the backend of a requirement."""
    backend, _, task = requirement.partition("|")
    return task, backend


def put(client: redis.Redis, queue: str, holder: str, requirement: str, ids: Sequence[str]) -> int:
    """Set jobs aside that `holder` has claimed.

    Returns:
        How many were still held by it.
    """
    names = [keys.epoch_of(queue), keys.body(queue), keys.held(queue, holder)]
    names += [keys.unknown(queue), keys.unknown_of(queue, requirement), keys.fence_of(queue, holder)]
    names.append(keys.cancelled(queue))
    return int(scripts.set_aside(client, names, [requirement, fence(holder, queue), *ids]))


def requirements(client: redis.Redis, queues: Iterable[str]) -> dict[str, list[str]]:
    """What children must know to run the jobs that are set aside in these queues; one round trip.

    Returns:
        Queue → requirements, sorted. Queues without any are left out.
    """
    names = list(queues)
    pipe = client.pipeline(transaction=False)
    for queue in names:
        pipe.smembers(keys.unknown(queue))
    return {queue: sorted(found) for queue, found in zip(names, pipe.execute(), strict=True) if found}


def take(
    client: redis.Redis, queue: str, requirement: str, holder: str, count: int
) -> tuple[list[Delivery], int]:
    """Claim jobs for a requirement for `holder`, oldest first. None are claimed while the queue is paused.

    Args:
        count: most jobs to claim.

    Returns:
        The deliveries, without those that were cancelled meanwhile; how many jobs are still set aside, 0 while the
        queue is paused.

    Raises:
        DataLost, Fenced: the call was refused, nothing was claimed (see dispatch.connection).
    """
    names = [keys.epoch_of(queue), keys.body(queue), keys.unknown(queue), keys.unknown_of(queue, requirement)]
    names += [keys.held(queue, holder), keys.paused(queue), keys.holders(queue), keys.fence_of(queue, holder)]
    args = [requirement, min(count, MAX_JOBS_PER_CLAIM), holder, fence(holder, queue)]
    answer = scripts.take_set_aside(client, names, args, counted(holder, queue))
    at = float(answer[0])
    found = [Delivery(queue, answer[i], answer[i + 1], at) for i in range(2, len(answer), 2)]
    return found, int(answer[1])


def waiting_for_requirement(client: redis.Redis, wanted: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Those of the wanted jobs that are set aside. One round trip, and another if their queues have any.

    Args:
        wanted: queue → id → requirement.
    """
    there = requirements(client, wanted)
    asked: list[str] = []
    pipe = client.pipeline(transaction=False)
    for queue, needed in there.items():
        for job_id, requirement in wanted[queue].items():
            if requirement in needed:
                asked.append(job_id)
                pipe.zscore(keys.unknown_of(queue, requirement), job_id)
    return (
        {job_id for job_id, at in zip(asked, pipe.execute(), strict=True) if at is not None}
        if asked
        else set()
    )
