"""Promote: delayed jobs go into Redis shortly before their time; rows whose time has come say `queued`."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from queue_app import clock
from queue_app.lifecycle import release
from queue_app.lifecycle.release import Place
from queue_app.maintenance.duty import Duty, LeaderTerm, Walk

#: Every so many walks all that is near is looked at, not only what has come near since the last one: also jobs whose
#: push failed are found then.
THOROUGH = 6


class Loading:
    """Loads what is due soon. A walk through it, soonest first, goes over several runs if there is much."""

    def __init__(self) -> None:
        self._token = 0
        self.forget()

    def forget(self) -> None:
        """Begin with all that is near."""
        self._walks = 0
        self._walk: Walk[Place] = Walk()
        self._loaded_until: datetime | None = None

    def run(self, term: LeaderTerm) -> int:
        """Go on with the walk, or begin one.

        Returns:
            How many jobs were loaded.
        """
        if term.lost or term.token != self._token:
            self.forget()
        if term.lost:
            return 0  # the rebuild comes first
        self._token = term.token
        until = release.horizon()
        start = self._loaded_until if self._walks % THOROUGH else None

        def step(behind: Place | None) -> tuple[int, Place | None]:
            return release.load_some(
                term.client, until, behind, start=start, check=term.check, keep=term.keep
            )

        count = self._walk.go_on(term, step)
        if not term.unfinished:
            self._walks, self._loaded_until = self._walks + 1, until
        return count


class Saying:
    """Lets rows that wait for a time that has come say so."""

    def __init__(self) -> None:
        self._walk: Walk[Place] = Walk()

    def run(self, term: LeaderTerm) -> int:
        """Go on with the walk through them, or begin one.

        Returns:
            How many rows were changed.
        """
        if term.lost:
            self._walk = Walk()
            return 0  # what they would say is not so: Redis does not have them
        step = partial(release.say_some, term.client, clock.now(), check=term.check)
        return self._walk.go_on(term, step)


loading = Loading()

#: The shortest DUE_HORIZON allowed is twice as long.
LOAD = Duty("promote", 8.0, loading.run, "loads jobs that are due soon into Redis")
PROMOTE = Duty("say_queued", 8.0, Saying().run, "lets rows whose time has come say so")
