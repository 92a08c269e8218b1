"""Faults of PostgreSQL: restarted, without half of its connections, read-only."""

from __future__ import annotations

import os
import signal
import time

import psycopg

from bench.chaos.arena import Arena, Fault
from bench.chaos.plan import Planned
from bench.chaos.targets import NotMade, length, store, struck


def restart(arena: Arena, fault: Fault, planned: Planned) -> None:
    """Immediate shutdown, and a start with crash recovery."""
    server = arena.stores.postgresql
    with store(arena, fault, arena.postgresql_lock):
        with struck(arena, fault):
            os.kill(server.pid, signal.SIGQUIT)
        while server.running:
            time.sleep(0.01)
        time.sleep(length(planned, 0.0, 3.0))
        server.kill()
        arena.start(server)
        fault.ended = time.time()


def terminate(arena: Arena, fault: Fault, planned: Planned) -> None:
    """`pg_terminate_backend` of half of all connections."""
    with store(arena, fault, arena.postgresql_lock):
        try:
            with arena.stores.connect() as connection, arena.claims_stopped() as held:
                fault.inflight = held
                fault.began = fault.ended = time.time()
                row = connection.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.5"
                ).fetchone()
                fault.detail = f"{row[0] if row else 0} connections"
        except psycopg.Error as error:
            raise NotMade(f"PostgreSQL did not answer ({error})") from None


def read_only(arena: Arena, fault: Fault, planned: Planned) -> None:
    """Every write is refused for a while, as by a primary that has become a standby. Nothing that ended may be lost."""
    with store(arena, fault, arena.postgresql_lock):
        fault.began = time.time()
        _refuse_writes(arena, "on")
        try:
            time.sleep(length(planned, 1.0, 6.0))
        finally:
            _refuse_writes(arena, "off")
            fault.ended = time.time()


def _refuse_writes(arena: Arena, value: str) -> None:
    with arena.stores.connect() as connection:
        connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}".encode())
        connection.execute("SELECT pg_reload_conf()")
