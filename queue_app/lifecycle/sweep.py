"""Sweep: rows that were committed but never pushed, because their process died in between or Redis was away.

Ids are made in the order of time, so what is new is one range of the index of waiting rows: it is looked at soon, each
row once, whatever waits behind it. The rest is walked through slowly (`recover.sweep`): there a row turns up whose
transaction was open for so long after its enqueue that it was new to nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import redis

from queue_app import clock, conf, ids
from queue_app.lifecycle import release
from queue_app.lifecycle.release import Check, unchecked
from queue_app.models import Job
from queue_app.models.bulk import write_alias
from queue_app.models.job import JobQuerySet
from queue_app.states import JobState

#: Rows are new for so many seconds after SWEEP_GRACE: a leader that has just been elected looks back as far, and a
#: commit that comes so late after its enqueue is still seen soon.
WINDOW = 30.0
#: Most new rows looked at in one call, of all queues together; what is left is looked at by the next.
LIMIT = 50_000
#: Most rows of a queue, the newest ones, that are looked at once more for late commits among them.
AGAIN = 2_000


def queues_that_wait(start: str = "") -> Iterator[str]:
    """The names of the queues that have waiting rows, from `start` on, sorted: one look-up in their index for each,
    not one row for each job."""
    rows = Job.objects.using(write_alias()).waiting_now().order_by("queue").values_list("queue", flat=True)
    name = rows.filter(queue__gte=start).first()
    while name is not None:
        yield name
        name = rows.filter(queue__gt=name).first()


def waiting_in(queue: str) -> JobQuerySet:
    """The rows of a queue that say `queued`, so that the index of waiting rows serves them."""
    return Job.objects.using(write_alias()).waiting_now().filter(queue=queue, state=JobState.QUEUED)


class Recent:
    """Looks at each new row once, and remembers how far it came in each queue."""

    def __init__(self) -> None:
        self._behind: dict[str, UUID] = {}

    def forget(self) -> None:
        """Begin with the window again: somebody else may have swept since."""
        self._behind.clear()

    def run(self, client: redis.Redis, *, limit: int = LIMIT, check: Check = unchecked) -> int:
        """Push the new rows that Redis does not know.

        Args:
            limit: most new rows looked at.
            check: asked before each batch of writes.

        Returns:
            How many were missing.
        """
        end = clock.seconds() - conf.get().SWEEP_GRACE
        until, since = ids.floor(end), ids.floor(end - WINDOW)
        names = list(queues_that_wait())
        share = max(1, limit // max(1, len(names)))
        reached: dict[str, UUID] = {}
        count = 0
        for name in names:
            behind = self._behind.get(name, since)
            rows = waiting_in(name).filter(id__lt=until)
            new = list(rows.filter(id__gte=behind).order_by("id").values_list("pk", "queue")[:share])
            reached[name] = new[-1][0] if len(new) == share else until
            if behind > since:
                late = rows.filter(id__gte=since, id__lt=behind).order_by("-id")
                new += late.values_list("pk", "queue")[:AGAIN]
            count += release.restore(client, new, check)
        self._behind = reached
        return count
