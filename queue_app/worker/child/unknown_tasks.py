"""Jobs whose task this child's code does not know. They are set aside, and never fail for that (P10)."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence

import redis
from django.conf import settings

from queue_app.dispatch import connection, set_aside
from queue_app.dispatch.holder import Holder
from queue_app.domain.delivery import Delivery
from queue_app.exceptions import UnknownTask
from queue_app.tasks import registry
from queue_app.tasks.registry import Declared
from queue_app.worker.child.claims import ClaimSet

logger = logging.getLogger(__name__)

#: Seconds between two checks for jobs that other children set aside; the first is before the first claim.
OFFER_INTERVAL_SECONDS = 5.0
#: Seconds after which an unknown task is looked up again: the import of its module may have failed at first.
RETRY_IMPORT_SECONDS = 60.0


class UnknownTasks:
    """What one child does not know, and what it knows that others do not.

    Args:
        claims: what the child has claimed.
        holder: the name under which the child holds jobs.
        queues: that it serves.
    """

    def __init__(self, claims: ClaimSet, holder: Holder, queues: Sequence[str]) -> None:
        self._claims = claims
        self._holder = holder
        self._queues = queues
        self._aliases = frozenset(getattr(settings, "TASKS", None) or {"default": {}})
        self._unknown: dict[str, float] = {}  # requirement → when to look it up again (monotonic)
        self._next_offer_at = 0.0
        self._pending: list[
            tuple[str, str]
        ] = []  # queue and requirement of jobs to claim that were set aside

    def known(self, delivery: Delivery) -> Declared | None:
        """The task of a delivery if this child has met it before; else ask `resolve`. Asked for each job."""
        declared = registry.known_task(delivery.task)
        if delivery.backend and delivery.backend not in self._aliases:
            return None
        return declared

    def resolve(self, delivery: Delivery) -> Declared | None:
        """The task of a delivery, after its module was imported if need be; that may take long, hang, or end this
        process. None after the job was set aside for a worker that knows it."""
        task, backend = delivery.task, delivery.backend
        requirement = set_aside.requirement_of(task, backend)
        if self._unknown.get(requirement, 0.0) > time.monotonic():
            self._set_aside(delivery, requirement)
            return None
        try:
            if not self._has(backend):
                raise UnknownTask(f"TASKS has no backend {backend!r} here.")
            declared = registry.look_up(task)
        except UnknownTask as error:
            self._unknown[requirement] = time.monotonic() + RETRY_IMPORT_SECONDS
            logger.warning("Job %s waits for a worker that knows its task. %s", delivery.id, error)
            self._set_aside(delivery, requirement)
            return None
        self._unknown.pop(requirement, None)
        self._next_offer_at = 0.0  # others may have set aside more of these
        return declared

    def _has(self, backend: str) -> bool:
        return not backend or backend in self._aliases

    def _set_aside(self, delivery: Delivery, requirement: str) -> None:
        with self._claims.releasing([delivery]):
            set_aside.put(connection.client(), delivery.queue, self._holder, requirement, [delivery.id])

    def claim_set_aside(self, client: redis.Redis, count: int) -> list[Delivery]:
        """Claim what others have set aside and this child knows; and a single job of each task that it may know. That
        one shows it when it is run: nothing is imported here, where no job could be blamed for it. Called before a
        claim; whether there is any is asked now and then.

        Args:
            count: most jobs to claim.

        Raises:
            Unavailable (see dispatch.connection): Redis cannot be reached, or has lost its data.
        """
        claimed: list[Delivery] = []
        now = time.monotonic()
        if now >= self._next_offer_at:
            self._pending = []
            for queue, requirements in set_aside.requirements(client, self._queues).items():
                for requirement in requirements:
                    self._offer(queue, requirement)
            self._next_offer_at = now + OFFER_INTERVAL_SECONDS * (0.75 + random.random() / 2)
        while self._pending and len(claimed) < count:
            queue, requirement = self._pending[-1]
            trial = not self._knows(requirement)
            wanted = 1 if trial else count - len(claimed)
            found, left = set_aside.take(client, queue, requirement, self._holder, wanted)
            claimed += found
            if trial or not left:
                self._pending.pop()
        return claimed

    def _knows(self, requirement: str) -> bool:
        task, backend = set_aside.parts_of(requirement)
        return self._has(backend) and registry.loaded_task(task) is not None

    def _offer(self, queue: str, requirement: str) -> None:
        task, backend = set_aside.parts_of(requirement)
        if self._knows(requirement):
            self._unknown.pop(requirement, None)
            logger.info("Jobs have waited for a worker that knows %s.", task)
        elif self._unknown.get(requirement, 0.0) > time.monotonic():
            return
        elif not self._has(backend) or not registry.may_know(task):
            self._unknown[requirement] = time.monotonic() + RETRY_IMPORT_SECONDS
            return
        else:
            logger.info("Jobs have waited for a worker that knows %s; one of them is tried.", task)
        self._pending.append((queue, requirement))
