"""Leaders by name, and how to depose one."""

from __future__ import annotations

import threading

from queue_app.dispatch import connection, keys
from queue_app.maintenance.duty import Duty
from queue_app.maintenance.leader import Leader
from tests.support.jobs import term_of


def leader(name: str = "a", *duties: Duty) -> Leader:
    return Leader(name, threading.Event(), duties=duties or None)


def depose(by: str = "b") -> int:
    """Let the leadership lapse, and let another process take it. Returns its token."""
    client = connection.client()
    client.delete(keys.leader())
    return term_of(client, by).token
