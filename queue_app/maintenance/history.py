"""What is known of each duty: the leader writes it to Redis after every round; API, admin and health read it.

{jq}:duties  HASH  name → {"leader", "host", "token", "at", "seconds", "count", "runs", "total", "errors",
                           "good_at", "error", "error_at"}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import redis

from queue_app import clock, conf
from queue_app.dispatch import workers
from queue_app.maintenance.duty import Duty
from queue_app.maintenance.leader_term import LeaderTerm


@dataclass
class History:
    """The results of a duty's runs.

    Attributes:
        leader, host: who did the last run: the id, and `host:pid`.
        token: of the leadership in which it was done.
        at: when it began, epoch seconds; 0 if there was none.
        seconds: how long it took.
        count: how many rows or jobs it touched; `total` is the sum of all runs.
        runs, errors: how many runs, and how many failed ones, since Redis was last empty.
        good_at: when the last run without an error began, epoch seconds.
        error, error_at: the last error, and when its run began. The duty is failing while `error_at` is later than
            `good_at`.
    """

    leader: str = ""
    host: str = ""
    token: int = 0
    at: float = 0.0
    seconds: float = 0.0
    count: int = 0
    runs: int = 0
    total: int = 0
    errors: int = 0
    good_at: float = 0.0
    error: str = ""
    error_at: float = 0.0

    @property
    def failing(self) -> bool:
        """Whether the last run ended in an error."""
        return self.error_at > self.good_at

    def late(self, duty: Duty | type[Duty]) -> bool:
        """Whether the last good run is longer ago than two intervals and a change of the leader take."""
        patience = 2 * duty.longest() + 2 * conf.get().LEASE
        return clock.seconds() - self.good_at > patience

    def add_run(self, term: LeaderTerm, host: str, at: float, seconds: float, count: int, error: str) -> None:
        """Add a run that has ended.

        Args:
            at: when it began, epoch seconds.
            seconds: how long it took.
            count: how many rows or jobs it touched.
            error: empty if there was none.
        """
        self.leader, self.host, self.token = term.leader_id, host, term.token
        self.at, self.seconds, self.count = at, round(seconds, 6), count
        self.runs += 1
        self.total += count
        if error:
            self.errors += 1
            self.error, self.error_at = error[:500], at
        else:
            self.good_at = at


_FIELDS = {f.name for f in fields(History)}


def read(client: redis.Redis) -> dict[str, History]:
    """Name of a duty → its history, as Redis has it. Duties of other releases may be among them."""
    found = {}
    for name, text in workers.duties(client).items():
        values: dict[str, Any] = json.loads(text)
        found[name] = History(**{key: value for key, value in values.items() if key in _FIELDS})
    return found


def write(client: redis.Redis, histories: dict[str, History], names: Iterable[str]) -> None:
    """Write the histories of these duties to Redis; one round trip."""
    texts = {name: json.dumps(vars(histories[name]), separators=(",", ":")) for name in names}
    if texts:
        workers.note_duties(client, texts)
