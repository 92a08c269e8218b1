"""Stats: samples of every queue's figures, for depth, waiting time and throughput over the last hour."""

from __future__ import annotations

from queue_app import clock
from queue_app.dispatch import figures, queues
from queue_app.dispatch.figures import Figures, Sample
from queue_app.lifecycle.sweep import waiting_in
from queue_app.maintenance.duty import Duty, Mandate

#: Waiting rows, the oldest of a queue, among which the one that has waited longest is looked for: a retry has an old id
#: and has not waited since then.
FIRST = 100

_reign: tuple[int, tuple[str, ...]] = (0, ())
_before: dict[str, Figures] = {}
_at = 0.0


def run(mandate: Mandate) -> int:
    """Take a sample.

    Returns:
        How many queues were looked at.
    """
    global _reign, _before, _at
    if not mandate.whole:  # what is not put back yet would seem to be gone
        mandate.unfinished = True
        return 0
    found = figures.count(mandate.client, sorted(queues.known(mandate.client)))
    now = clock.seconds()
    # Of the time in which somebody else led, or Redis had lost its data, nothing is known here.
    reign = (mandate.token, tuple(epoch.name for epoch in mandate.epochs.values()))
    seconds = max(0.0, now - _at) if reign == _reign else 0.0
    chosen = figures.busiest(
        {name: one.since(_before.get(name, Figures()) if seconds else one) for name, one in found.items()}
    )
    for name, one in chosen.items():
        if one.waiting:
            one.oldest = _oldest(name, now)
    mandate.check()
    figures.keep(mandate.client, Sample(now, round(seconds, 3), chosen))
    _reign, _before, _at = reign, found, now
    return len(found)


def _oldest(queue: str, now: float) -> float | None:
    rows = waiting_in(queue).order_by("id").values_list("enqueued_at", "run_after")[:FIRST]
    since = [max(enqueued, run_after or enqueued).timestamp() for enqueued, run_after in rows]
    return round(max(0.0, now - min(since)), 3) if since else None


STATS = Duty("stats", 10.0, run, "keeps the figures of the queues for an hour")
