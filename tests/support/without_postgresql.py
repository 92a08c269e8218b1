"""A pytest plugin that makes this machine one without PostgreSQL."""

from __future__ import annotations

from typing import NoReturn

from bench.runtime import processes, servers


def _none(user: str | None) -> NoReturn:
    raise processes.ServerUnavailable("no PostgreSQL found: apt install postgresql.")


servers._postgresql_binaries = _none
