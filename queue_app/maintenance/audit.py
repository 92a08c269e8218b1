"""Audit: notices keys that Redis has lost in part, by eviction or by hand.

Two questions find them. Can all jobs that wait in Redis be reached through the lanes of their queue? Does Redis know
a job of each queue that has waited for a while? Each answer must be the same in two runs, so that what is just under way
does not count.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from uuid import UUID

from queue_app.dispatch import epochs, keys, queues
from queue_app.lifecycle import rebuild, release, sweep
from queue_app.maintenance.duty import Duty, Mandate

logger = logging.getLogger(__name__)

#: Queues in one round trip.
PART = 500


class Audit:
    """What the run before has found."""

    def __init__(self) -> None:
        self._unreachable: set[str] = set()
        self._unknown: set[tuple[str, str]] = set()

    def run(self, mandate: Mandate) -> int:
        """Look at all queues; put right what was found twice.

        Returns:
            How many queues were put right.
        """
        if not mandate.whole:
            self._unreachable, self._unknown = set(), set()
            return 0
        return self._look_at_lanes(mandate) or self._look_at_oldest(mandate)

    def _look_at_lanes(self, mandate: Mandate) -> int:
        names = rebuild.names_in_redis(mandate.client)
        found = set()
        for part in _parts(names):
            mandate.keep()
            counts = queues.count(mandate.client, part)
            found |= {name for name, count in counts.items() if count.waiting > count.listed}
        twice, self._unreachable = found & self._unreachable, found
        for shard in {keys.shard_of(name) for name in twice}:
            mandate.check()
            if epochs.end(mandate.client, shard, mandate.epochs[shard]):
                logger.warning(
                    "Jobs of %s are in no lane of Redis: some of its keys are gone. All that waits is put back.",
                    ", ".join(sorted(twice)[:5]),
                )
        if twice:
            mandate.check()
            mandate.urgent = True
        return len(twice)

    def _look_at_oldest(self, mandate: Mandate) -> int:
        """Push all that waits in queues whose oldest job Redis does not know, where that was so before."""
        found = set()
        for part in _parts(sweep.oldest_waiting(mandate.keep)):
            mandate.keep()
            missing = queues.missing(mandate.client, {queue: [job_id] for queue, job_id in part})
            found |= {(queue, ids[0]) for queue, (ids, _) in missing.items()}
        twice, self._unknown = found & self._unknown, found
        for queue, _ in sorted(twice):
            count = self._restore(mandate, queue)
            if count:
                logger.warning("%d waiting jobs of %s were missing in Redis and were pushed.", count, queue)
        return len(twice)

    @staticmethod
    def _restore(mandate: Mandate, queue: str) -> int:
        count, behind = 0, UUID(int=0)
        while True:
            rows = sweep.waiting_in(queue).filter(id__gt=behind).order_by("id")
            part = list(rows.values_list("pk", "queue")[: release.CHUNK])
            if not part:
                return count
            behind = part[-1][0]
            mandate.keep()
            count += release.restore(mandate.client, part, mandate.check)


def _parts(values: Iterable[object]) -> Iterable[list[object]]:
    found = list(values)
    for start in range(0, len(found), PART):
        yield found[start : start + PART]


#: Twice this, and a rebuild, are less than a minute.
AUDIT = Duty("audit", 15.0, Audit().run, "finds keys that Redis has lost in part")
