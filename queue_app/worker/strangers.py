"""Strangers: jobs whose task this child's code does not know. They are never failed for that (P10)."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence

import redis
from django.conf import settings

from queue_app import registry
from queue_app.dispatch import connection, unknown
from queue_app.dispatch.body import Delivery
from queue_app.dispatch.holder import Holder
from queue_app.exceptions import UnknownTask
from queue_app.registry import Declared
from queue_app.worker.hands import Hands

logger = logging.getLogger(__name__)

#: Seconds between two looks at what other children did not know; the first is before the first claim.
LOOK = 5.0
#: Seconds after which a task that was not known is looked for again: its module may have failed at first.
AGAIN = 60.0


class Strangers:
    """What one child does not know, and what it knows that others do not.

    Args:
        hands: what the child has claimed.
        holder: the name under which the child holds jobs.
        queues: that it serves.
    """

    def __init__(self, hands: Hands, holder: Holder, queues: Sequence[str]) -> None:
        self._hands = hands
        self._holder = holder
        self._queues = queues
        self._aliases = frozenset(getattr(settings, "TASKS", None) or {"default": {}})
        self._unknown: dict[str, float] = {}  # need → when to look for it again
        self._look_at = 0.0
        self._pending: list[tuple[str, str]] = []  # queue and need of what it knows and others have set aside

    def resolve(self, delivery: Delivery) -> Declared | None:
        """The task of a delivery; None after the job was set aside for a worker that knows it."""
        task, backend = delivery.task, delivery.backend
        need = ""
        if self._unknown:
            need = unknown.need_of(task, backend)
            if self._unknown.get(need, 0.0) > time.monotonic():
                self._park(delivery, need)
                return None
        try:
            return self._declared(task, backend)
        except UnknownTask as error:
            need = need or unknown.need_of(task, backend)
            self._unknown[need] = time.monotonic() + AGAIN
            logger.warning("Job %s waits for a worker that knows its task. %s", delivery.id, error)
            self._park(delivery, need)
            return None

    def _declared(self, task: str, backend: str) -> Declared:
        declared = registry.resolve(task)
        if backend and backend not in self._aliases:
            raise UnknownTask(f"TASKS has no backend {backend!r} here.")
        return declared

    def _park(self, delivery: Delivery, need: str) -> None:
        with self._hands.letting_go([delivery]):
            unknown.park(connection.client(), delivery.queue, self._holder, need, [delivery.id])

    def look(self, client: redis.Redis, count: int) -> int:
        """Before a claim: offer what others have set aside and this child knows, as much as it is about to claim.
        Whether there is any is asked now and then.

        Returns:
            How many were offered.

        Raises:
            Unavailable (see dispatch.connection): Redis cannot be reached.
        """
        now = time.monotonic()
        if now >= self._look_at:
            self._pending = [
                (queue, need)
                for queue, needs in unknown.needs(client, self._queues).items()
                for need in needs
                if self._knows(need)
            ]
            self._look_at = now + LOOK * (0.75 + random.random() / 2)
            for _, need in self._pending:
                logger.info("Jobs have waited for a worker that knows %s.", unknown.parts_of(need)[0])
        made = 0
        while self._pending and made < count:
            offered = unknown.offer(client, *self._pending[-1], count - made)
            made += offered
            if not offered:
                self._pending.pop()
        return made

    def _knows(self, need: str) -> bool:
        if self._unknown.get(need, 0.0) > time.monotonic():
            return False
        try:
            self._declared(*unknown.parts_of(need))
        except UnknownTask:
            self._unknown[need] = time.monotonic() + AGAIN
            return False
        self._unknown.pop(need, None)
        return True
