"""Stats: samples of every queue's figures, for depth, waiting time and throughput over the last hour."""

from __future__ import annotations

from queue_app import clock
from queue_app.dispatch import listing, queue_stats, queues
from queue_app.dispatch.queue_stats import QueueStats, Sample
from queue_app.maintenance.duty import Duty, LeaderTerm
from queue_app.maintenance.idle import Idle
from queue_app.models import sql

#: Waiting rows, the oldest of a queue, among which the one that has waited longest is looked for: a retry has an old id
#: and has not waited since then.
MAX_QUEUES_ASKED = 100


class Stats:
    """Takes samples, each of what has happened since the one before; and has idle queues forgotten."""

    def __init__(self) -> None:
        self._reign: tuple[int, tuple[str, ...]] = (0, ())
        self._before: dict[str, QueueStats] = {}
        self._at = 0.0
        self._idle = Idle()

    def run(self, term: LeaderTerm) -> int:
        """Take a sample.

        Returns:
            How many queues were looked at.
        """
        if not term.whole:  # what is not put back yet would seem to be gone
            term.unfinished = True
            return 0
        found: dict[str, QueueStats] = {}
        names = queues.known(term.client)
        for part in listing.parts(sorted(names)):
            term.keep()
            found |= queue_stats.count(term.client, part)
        now = clock.seconds()
        # Of the time in which another process led, or Redis had lost its data, nothing is known here.
        reign = (term.token, tuple(epoch.name for epoch in term.epochs.values()))
        seconds = max(0.0, now - self._at) if reign == self._reign else 0.0
        before = self._before if seconds else found
        chosen = queue_stats.busiest(found, before)
        _add_oldest(chosen, now)
        term.check()
        queue_stats.save(term.client, Sample(now, round(seconds, 3), chosen))
        self._reign, self._before, self._at = reign, found, now
        nothing = QueueStats()
        busy = {name for name, one in found.items() if one.size_since(before.get(name, nothing))}
        self._idle.forget(term, names - busy)
        return len(names)


def _add_oldest(chosen: dict[str, QueueStats], now: float) -> None:
    database = sql.write_connection()
    waiting = [name for name, one in chosen.items() if one.waiting]
    since = sql.for_vendor(database).oldest_waiting(database, waiting, MAX_QUEUES_ASKED) if waiting else {}
    for name, at in since.items():
        chosen[name].oldest = round(max(0.0, now - at), 3)


STATS = Duty(
    "stats", 10.0, Stats().run, "keeps the figures of the queues for an hour, and forgets idle queues"
)
