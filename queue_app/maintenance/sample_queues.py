"""Takes samples of every queue's figures: depth, waiting time and throughput over the last hour."""

from __future__ import annotations

from queue_app import clock
from queue_app.dispatch import listing, queue_stats, queues
from queue_app.dispatch.queue_stats import QueueStats, Sample
from queue_app.maintenance.duty import Duty
from queue_app.maintenance.idle import IdleQueues
from queue_app.maintenance.leader_term import LeaderTerm
from queue_app.models import sql

#: The oldest waiting rows of a queue, among which the one that has waited longest is looked for. A retry has an old id
#: but has not waited since then.
MAX_ROWS_PER_QUEUE = 100


class SampleQueues(Duty):
    """Takes samples, each of what has happened since the sample before; and removes idle queues."""

    name = "stats"
    interval = 10.0
    doc = "keeps the figures of the queues for an hour, and forgets idle queues"

    def __init__(self) -> None:
        self._term: tuple[int, tuple[str, ...]] = (0, ())  # token and epochs of the sample before
        self._before: dict[str, QueueStats] = {}
        self._sampled_at = 0.0
        self._idle = IdleQueues()

    def run(self, term: LeaderTerm) -> int:
        """Take a sample.

        Returns:
            How many queues were looked at.
        """
        if not term.is_complete:  # what is not pushed again yet would seem to be gone
            term.unfinished = True
            return 0
        found: dict[str, QueueStats] = {}
        names = queues.known(term.client)
        for part in listing.parts(sorted(names)):
            term.keep_alive()
            found |= queue_stats.count(term.client, part)
        now = clock.seconds()
        # Nothing is known of the time in which another process led, or Redis had lost its data.
        this_term = (term.token, tuple(epoch.name for epoch in term.epochs.values()))
        seconds = max(0.0, now - self._sampled_at) if this_term == self._term else 0.0
        before = self._before if seconds else found
        chosen = queue_stats.busiest(found, before)
        _add_oldest(chosen, now)
        term.check()
        queue_stats.save(term.client, Sample(now, round(seconds, 3), chosen))
        self._term, self._before, self._sampled_at = this_term, found, now
        nothing = QueueStats()
        busy = {name for name, stats in found.items() if stats.size_since(before.get(name, nothing))}
        self._idle.forget(term, names - busy)
        return len(names)


def _add_oldest(chosen: dict[str, QueueStats], now: float) -> None:
    """Add the age of the job that has waited longest, in seconds, to the queues in which any waits."""
    database = sql.write_connection()
    waiting = [name for name, stats in chosen.items() if stats.waiting]
    since = sql.for_vendor(database).oldest_waiting(database, waiting, MAX_ROWS_PER_QUEUE) if waiting else {}
    for name, at in since.items():
        chosen[name].oldest = round(max(0.0, now - at), 3)
