"""What a child has in its hands; and how what Redis says that it holds is put right after a call that failed.

A claim, a give-back or an acknowledgement whose answer never came may have taken place or not, or may yet. Nothing is
repeated blindly. The child raises its fence, so that such a call cannot take place any more, looks at what it holds,
and lets go of all that it knows nothing of, as the record says (`recover.give_up`). What it has claimed and Redis says
that it does not hold is another child's by now: `revoked` tells the runner not to begin it.
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
from queue_app.lifecycle import push
from queue_app.lifecycle.recovery import recover


class ClaimSet:
    """The deliveries of one child that are claimed and not yet let go of.

    Args:
        holder: the name under which the child holds jobs.

    Attributes:
        lock: held from before a claim until its deliveries are in `add`; and while things are put right.
        gone: ids of what must not begin any more, as far as it has not begun.
        owed: those of them of which Redis may not know: when they are dropped, there is a doubt.
        since: when something was last claimed or put right, epoch seconds.
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
        """These were claimed, and will be run or given back."""
        new = {d.id: d for d in deliveries}
        self._deliveries.update(new)
        if self.revoked:
            self.revoked.difference_update(new)
        self.since = clock.seconds()

    @contextmanager
    def releasing(self, deliveries: Sequence[Delivery]) -> Iterator[None]:
        """The block asks Redis to let go of these; they leave the hands after it, whether or not there was an answer.
        Without one there is a doubt, and Redis is noted to be away."""
        lost: BaseException | None = None
        try:
            yield
        except connection.Unavailable as error:
            lost = error
        self.remove(deliveries)
        if lost is not None:
            push.redis_failed(lost)
            self.mark_unsure({d.queue for d in deliveries})

    def remove(self, deliveries: Iterable[Delivery]) -> None:
        """Redis has let go of these, or may have (call `mark_unsure` then). They are not reconciled
        until this is called. A later delivery of the same job stays."""
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
        """Something was asked of Redis for these queues, and it is not known whether it was done."""
        self._unsure.update(names)

    @property
    def needs_reconcile(self) -> bool:
        """Whether there is something to put right."""
        return bool(self._unsure)

    def reconcile(self, client: redis.Redis) -> int:
        """Let go of all that this child holds in Redis and has not in its hands. The caller has the lock.

        Returns:
            How many such jobs there were.

        Raises:
            Unavailable (see dispatch.connection), Error (of the database): call it again.
        """
        count = 0
        for name in sorted(self._unsure.copy()):
            # Before the look: a doubt that arises meanwhile is one more.
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
        self.revoked |= mine - held.keys()  # also what ends just now; it is forgotten when it is dropped
        strange = [
            Delivery(name, job_id, raw, at)
            for job_id, (at, raw) in sorted(held.items())
            if job_id not in self._deliveries
        ]
        if strange:
            recover.give_up(client, self._holder, strange)
        return len(strange)
