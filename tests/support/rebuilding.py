"""How far a rebuild is."""

from __future__ import annotations

from queue_app.dispatch import connection, epochs


def phase() -> str:
    epoch = epochs.read(connection.client())["main"]
    return "lost" if epoch.lost else epoch.phase
