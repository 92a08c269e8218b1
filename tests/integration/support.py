"""What the tests of both stores share: jobs, a child that claims and ends them by hand, and questions to Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from queue_app import clock, signals
from queue_app.dispatch import connection, queues, workers
from queue_app.dispatch.holder import Holder
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome
from queue_app.domain.states import AttemptState, DeadReason
from queue_app.lifecycle import settle, tokens
from queue_app.maintenance.leader_term import LeaderTerm
from queue_app.models import Job
from tests import tasks

WORKER = "0190a000-0000-7000-8000-00000000000a"
OTHER_WORKER = "0190a000-0000-7000-8000-00000000000b"


def jobs(count: int, *, task: Any = tasks.noop) -> list[str]:
    """Enqueue `count` calls; their ids, in the order in which they will run."""
    return [result.id for result in task.enqueue_many([((n,), {}) for n in range(count)])]


@contextmanager
def stores_heard(when_lost: Callable[[], object] = lambda: None) -> Iterator[list[str]]:
    """What is said of the stores meanwhile, in order: "lost redis: why", "returned redis".

    Args:
        when_lost: called when one is said to be lost; if it raises, nothing is noted.
    """
    said: list[str] = []

    def lost(sender: object, store: str, error: str, **more: Any) -> None:
        when_lost()
        said.append(f"lost {store}: {error}")

    def returned(sender: object, store: str, **more: Any) -> None:
        said.append(f"returned {store}")

    signals.store_lost.connect(lost)
    signals.store_returned.connect(returned)
    try:
        yield said
    finally:
        signals.store_lost.disconnect(lost)
        signals.store_returned.disconnect(returned)


def term_of(client: redis.Redis, leader_id: str = "a", seconds: float = 60) -> LeaderTerm:
    """The mandate of a leadership that begins now; of whoever led before it must be over."""
    token = tokens.next_token()
    assert workers.lead(client, leader_id, seconds, token)
    return LeaderTerm(client, leader_id, token)


class Child:
    """A child that does by hand what the processes of a worker do.

    Args:
        serial: its number among the children of its worker.
        listed: whether the worker has sent a heartbeat.
    """

    def __init__(self, serial: int = 1, worker_id: str = WORKER, *, listed: bool = True) -> None:
        self.worker_id = worker_id
        self.holder = Holder(workers.holder(worker_id, serial))
        self.client: redis.Redis = connection.client()
        if listed:
            workers.beat(self.client, worker_id, ["default"])
        else:
            workers.register(self.client, workers.owner(self.holder))

    def claim(self, count: int = 1, queue: str = "default") -> list[Delivery]:
        return queues.claim(self.client, queue, self.holder, count)[0]

    def held(self, queue: str = "default") -> set[str]:
        """The ids that it holds."""
        return set(workers.held(self.client, queue, self.holder))

    def end(self, *deliveries: Delivery, make: Callable[[Delivery], Outcome] | None = None) -> set[str]:
        """Record outcomes, acknowledge them, and return the ids that counted."""
        outcomes = [(make or succeeded)(delivery) for delivery in deliveries]
        accepted = settle.record(outcomes, self.worker_id)
        settle.acknowledge(self.client, self.holder, outcomes, accepted)
        return accepted


def succeeded(delivery: Delivery) -> Outcome:
    now = clock.seconds()
    return Outcome(delivery, AttemptState.SUCCEEDED, now - 0.01, now, result='"done"')


def failed(delivery: Delivery, *, run_at: float | None = None, dead_reason: Any = None) -> Outcome:
    now = clock.seconds()
    return Outcome(
        delivery,
        AttemptState.FAILED,
        now - 0.01,
        now,
        error_class="builtins.ValueError",
        error="on purpose",
        traceback="Traceback …",
        run_at=run_at,
        dead_reason=dead_reason,
    )


def drain(count: int = 100, queue: str = "default", serial: int = 99) -> list[str]:
    """What a child would get now, in that order; Redis still counts it as held afterwards."""
    return [delivery.id for delivery in Child(serial).claim(count, queue)]


def states(ids: Sequence[str]) -> list[str]:
    """The states of these jobs, in the order of the ids."""
    found = {str(pk): state for pk, state in Job.objects.filter(pk__in=ids).values_list("pk", "state")}
    return [found[job_id] for job_id in ids]


def calls(client: redis.Redis, command: str) -> int:
    """How often the server has carried out a command since its statistics were reset."""
    return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def die(count: int = 1) -> list[str]:
    """Jobs that have ended in the dead letters."""
    ids = jobs(count)
    child = Child()
    child.end(*child.claim(count), make=lambda d: failed(d, dead_reason=DeadReason.EXHAUSTED))
    return ids
