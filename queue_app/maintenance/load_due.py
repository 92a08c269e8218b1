"""Loads delayed jobs into Redis shortly before their time."""

from __future__ import annotations

from datetime import datetime

from queue_app.lifecycle import release
from queue_app.lifecycle.release import Position
from queue_app.maintenance.duty import Duty, Walk
from queue_app.maintenance.leader_term import LeaderTerm

#: One walk in so many looks at all jobs whose time is near. The others look only at what has come near since the walk
#: before. The full walk also finds jobs whose push failed.
FULL_WALK_EVERY = 6


class LoadDue(Duty):
    """Walks through the jobs whose time is near, soonest first. If there are many, it goes over several runs."""

    name = "load_due"
    interval = 8.0  # the shortest DUE_HORIZON that is allowed is twice as long
    doc = "loads jobs that are due soon into Redis"

    def __init__(self) -> None:
        self._token = 0
        self._begin_full_walk()

    def _begin_full_walk(self) -> None:
        self._walks = 0
        self._walk: Walk[Position] = Walk()
        self._loaded_until: datetime | None = None

    def run(self, term: LeaderTerm) -> int:
        """Go on with the walk, or begin one.

        Returns:
            How many jobs were loaded.
        """
        if term.needs_rebuild or term.token != self._token:
            self._begin_full_walk()
        if term.needs_rebuild:
            return 0
        self._token = term.token
        until = release.horizon()
        start = self._loaded_until if self._walks % FULL_WALK_EVERY else None

        def step(position: Position | None) -> tuple[int, Position | None]:
            return release.load_due_part(
                term.client, until, position, start=start, check=term.check, keep_alive=term.keep_alive
            )

        count = self._walk.advance(term, step)
        if not term.unfinished:
            self._walks, self._loaded_until = self._walks + 1, until
        return count
