"""Promote: delayed jobs go into Redis shortly before their time; rows whose time has come say `queued`."""

from __future__ import annotations

from datetime import datetime, timedelta

from queue_app import clock, conf
from queue_app.lifecycle import release
from queue_app.maintenance.duty import Duty, Mandate

#: Every so many runs all that is near is looked at, not only what has come near since the last one: also jobs whose
#: push failed are found then.
THOROUGH = 6

_runs = 0
_loaded_until: datetime | None = None


def run(mandate: Mandate) -> int:
    """Load what is due soon.

    Returns:
        How many jobs were loaded.
    """
    global _runs, _loaded_until
    if mandate.lost:
        _runs = 0
        return 0  # the rebuild comes first
    after = None if _runs % THOROUGH == 0 else _loaded_until
    until = clock.now() + timedelta(seconds=conf.get().DUE_HORIZON)
    count = release.load_due(mandate.client, after=after, check=mandate.check)
    _runs, _loaded_until = _runs + 1, until
    return count


def say(mandate: Mandate) -> int:
    """Let rows that wait for a time that has come say so.

    Returns:
        How many rows were changed.
    """
    count = release.say_queued(check=mandate.check)
    mandate.unfinished = count == release.SAY
    return count


#: The shortest DUE_HORIZON allowed is twice as long.
LOAD = Duty("promote", 8.0, run, "loads jobs that are due soon into Redis")
SAY = Duty("say_queued", 8.0, say, "lets rows whose time has come say so")
