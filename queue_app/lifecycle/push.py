"""Push: give committed jobs to Redis. A failure never breaks the caller: the rows are there, and the leader pushes
what was not pushed here."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

import redis

from queue_app.dispatch import connection, queues
from queue_app.dispatch.queues import Entry
from queue_app.lifecycle.redis_breaker import breaker

logger = logging.getLogger(__name__)

#: Seconds that a push may take before the caller goes on without it.
PUSH_TIMEOUT = 2.0


class ListedQueues:
    """The queues that this process has listed in Redis, so that each push does not list its queue again."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget them all: each is listed again by its next push."""
        self._pid = os.getpid()
        self._names: set[str] = set()

    def add(self, client: redis.Redis, names: Iterable[str]) -> None:
        """List queues in Redis that this process has not listed yet, for the pages that show all queues.

        A forked child lists its queues again, as its parent may have listed them long ago.

        Raises:
            Unavailable (see dispatch.connection): Redis cannot be reached.
        """
        if self._pid != os.getpid():
            self.reset()
        if new := [name for name in names if name not in self._names]:
            queues.remember(client, new)
            self._names.update(new)


#: Those of this process. All threads share them.
listed_queues = ListedQueues()


def push_quietly(by_queue: dict[str, list[Entry]], made: float) -> set[str]:
    """Push after a commit. A failure opens the circuit breaker and is not raised.

    Args:
        made: when the oldest of the jobs were made, on this process's monotonic clock.

    Returns:
        The queues with jobs that are too old to be pushed without reading their rows.
    """
    if breaker.is_open:
        return set()
    late = set()
    try:
        client = connection.client(PUSH_TIMEOUT)
        for queue, entries in by_queue.items():
            if queues.push(client, queue, entries, made) is None:
                late.add(queue)
        listed_queues.add(client, by_queue)
    except (connection.DataLost, connection.Full) as error:
        # Redis answered, so this is no outage.
        logger.debug("The leader will push these jobs: %s", error)
        return set()
    except connection.Unavailable as error:
        breaker.open(error)
        return set()
    except Exception:  # the rows are committed, and the caller must not suffer
        logger.exception("Pushing to Redis failed; the leader will find the jobs.")
        return set()
    breaker.close()
    return late
