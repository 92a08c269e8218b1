"""What a child has claimed, and how this is reconciled with Redis after a call that failed.

A claim, give-back or acknowledgement whose answer was lost may have been carried out, or may still be. It is not
repeated. The child raises its fencing number, so that the old call is refused from then on. It reads what Redis says
that it holds, and releases what it has not claimed, as the record says (`recover.give_up`). A claim that Redis does not
know belongs to another child by now: it is `revoked`, so that the runner does not start it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager

import redis

from queue_app import clock
from queue_app.dispatch import connection, queues, workers
from queue_app.dispatch.holder import Holder, revoke_calls
from queue_app.domain.delivery import Delivery
from queue_app.lifecycle.recovery import recover
from queue_app.lifecycle.redis_breaker import breaker


class ClaimSet:
    """The deliveries that one child has claimed and not released yet.

    Args:
        holder: the name under which the child holds jobs.

    Attributes:
        lock: held from before a claim until `add` was called, and while claims are reconciled.
        revoked: ids of claimed jobs that must not start any more.
        unconfirmed: revoked ids that Redis may not know of; removing one makes a reconcile necessary.
        since: when the last claim or reconcile was, in epoch seconds.
    """

    def __init__(self, holder: Holder) -> None:
        self.lock = threading.Lock()
        self.revoked: set[str] = set()
        self.unconfirmed: set[str] = set()
        self.since = 0.0
        self._holder = holder
        self._deliveries: dict[str, Delivery] = {}
        self._unsure: set[str] = set()  # queues

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Register deliveries that were claimed."""
        new = {d.id: d for d in deliveries}
        self._deliveries.update(new)
        if self.revoked:
            self.revoked.difference_update(new)
        self.since = clock.seconds()

    @contextmanager
    def releasing(self, deliveries: Sequence[Delivery]) -> Iterator[None]:
        """Remove these after the block, which asks Redis to release them. Without an answer, reconcile is needed."""
        lost: BaseException | None = None
        try:
            yield
        except connection.Unavailable as error:
            lost = error
        self.remove(deliveries)
        if lost is not None:
            breaker.failed(lost)
            self.mark_unsure({d.queue for d in deliveries})

    def remove(self, deliveries: Iterable[Delivery]) -> None:
        """Redis has released these, or may have (call `mark_unsure` then). They are not reconciled until this call.
        A later delivery of the same job stays."""
        mine = self._deliveries
        for d in deliveries:
            if mine.get(d.id) is d:
                del mine[d.id]
                if self.revoked:
                    self.revoked.discard(d.id)
                if self.unconfirmed and d.id in self.unconfirmed:
                    self.unconfirmed.discard(d.id)
                    self.mark_unsure([d.queue])

    def give_back(self, unstarted: list[Delivery]) -> None:
        """Return jobs that have not started, and are prefetched no more, to the front of their queues."""
        by_queue: dict[str, list[Delivery]] = {}
        for delivery in unstarted:
            by_queue.setdefault(delivery.queue, []).append(delivery)
        for queue, deliveries in by_queue.items():
            with self.releasing(deliveries):
                queues.give_back(connection.client(), queue, self._holder, [d.id for d in deliveries])

    def postpone(self, delivery: Delivery, seconds: float) -> None:
        """Return a job that has not started to its queue. No child claims it for so many seconds."""
        at = clock.seconds() + seconds
        with self.releasing([delivery]):
            entry = (delivery.id, at, delivery.raw)
            queues.settle(connection.client(), delivery.queue, self._holder, [], [entry])

    def revoke(self, ids: Set[str]) -> None:
        """These must not begin any more. Redis may still say that this child holds them, until `confirm`."""
        self.revoked.update(ids)
        self.unconfirmed.update(ids)

    def confirm(self, ids: Set[str]) -> None:
        """Redis has released these revoked jobs."""
        self.unconfirmed.difference_update(ids)

    def has_newer(self, delivery: Delivery) -> bool:
        """Whether a later delivery of the same job has been claimed here."""
        found = self._deliveries.get(delivery.id)
        return found is not None and found is not delivery

    def mark_unsure(self, names: Iterable[str]) -> None:
        """It is not known whether a call for these queues was carried out: they have to be reconciled."""
        self._unsure.update(names)

    @property
    def needs_reconcile(self) -> bool:
        """Whether any queue has to be reconciled."""
        return bool(self._unsure)

    def reconcile(self, client: redis.Redis) -> int:
        """Release all that this child holds in Redis and has not claimed. The caller holds the lock.

        Returns:
            How many jobs were released.

        Raises:
            Unavailable (see dispatch.connection), Error (of the database): call it again.
        """
        count = 0
        for name in sorted(self._unsure.copy()):
            # Before Redis is read: a call that fails meanwhile needs another reconcile.
            self._unsure.discard(name)
            try:
                count += self._reconcile(client, name)
            except BaseException:
                self.mark_unsure([name])
                raise
        self.since = clock.seconds()
        return count

    def _reconcile(self, client: redis.Redis, name: str) -> int:
        revoke_calls(client, name, self._holder)
        mine = {job_id for job_id, d in list(self._deliveries.items()) if d.queue == name}
        held = workers.held(client, name, self._holder)
        self.revoked |= mine - held.keys()  # also jobs that end at this moment; `remove` discards them
        strange = [
            Delivery(name, job_id, raw, at)
            for job_id, (at, raw) in sorted(held.items())
            if job_id not in self._deliveries
        ]
        if strange:
            recover.give_up(client, self._holder, strange)
        return len(strange)
