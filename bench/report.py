"""The figures of a run as results.json and as a table. A figure that was not measured is null."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.backlog import Backlog
from bench.drain import Drain
from bench.enqueue import Many, One
from bench.idle import Idle
from bench.latency import Latency
from bench.plan import Plan
from bench.rebuild import Holders, Rebuild
from bench.stores import Stores
from bench.worker import ARGUMENTS


@dataclass(slots=True)
class Figures:
    """What was measured; None for what was left out."""

    one: One | None = None
    many: Many | None = None
    rebuild: Rebuild | None = None
    holders: Holders | None = None
    drain: Drain | None = None
    backlog: Backlog | None = None
    latency: Latency | None = None
    idle: Idle | None = None


def versions(stores: Stores) -> dict[str, str]:
    """The versions of everything that takes part."""
    import queue_app
    from queue_app.tasks_api.compat import ROOT

    with stores.connect() as connection, stores.client() as client:
        postgresql = str(connection.execute("SHOW server_version").fetchone()[0])  # type: ignore[index]
        redis_server = str(client.info("server")["redis_version"])
    found = {
        "queue_app": queue_app.__version__,
        "python": platform.python_version(),
        "postgresql": postgresql,
        "redis": redis_server,
    }
    packages = ["django", "psycopg", "redis", "hiredis"] + (
        ["django-tasks"] if ROOT == "django_tasks" else []
    )
    for package in packages:
        try:
            found["redis-py" if package == "redis" else package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def as_json(figures: Figures, found: dict[str, str]) -> dict[str, Any]:
    """The content of results.json: rates per second, CPU in µs a job, latency in ms, memory in MB."""
    one, many, drain, backlog, latency, idle = (
        figures.one, figures.many, figures.drain, figures.backlog, figures.latency, figures.idle,
    )  # fmt: skip
    return {
        "drain_per_s": drain and round(drain.per_s),
        "drain_cpu_us": {
            "worker": drain and round(drain.worker_us, 1),
            "stores": drain and round(drain.stores_us, 1),
        },
        "drain_1m_backlog_per_s": backlog and round(backlog.per_s),
        "enqueue_many_per_s": many and round(many.per_s),
        "enqueue_one_per_s": one and round(one.per_s),
        "rebuild_per_s": figures.rebuild and round(figures.rebuild.per_s),
        "rebuild_with_holders_per_s": {
            "few": figures.holders and round(figures.holders.few_per_s),
            "many": figures.holders and round(figures.holders.many_per_s),
        },
        "floor": {
            "insert_commit_per_s": one and round(one.insert_commit_per_s),
            "copy_per_s": many and round(many.copy_per_s),
            "read_and_push_per_s": figures.rebuild and round(figures.rebuild.read_and_push_per_s),
            "settle_per_s": drain and round(drain.settle_per_s),
            "redis_script_per_s": one and round(one.redis_script_per_s),
        },
        "latency_ms": {
            "p50": latency and round(latency.p50, 2),
            "p95": latency and round(latency.p95, 2),
            "p99": latency and round(latency.p99, 2),
        },
        "idle_cpu_percent": idle and round(idle.cpu_percent, 3),
        "child_pss_mb": None if idle is None or idle.child_pss_mb is None else round(idle.child_pss_mb, 1),
        "redis_bytes_per_waiting_job": backlog and round(backlog.redis_bytes_per_job),
        "versions": found,
    }


def write(path: Path, content: dict[str, Any]) -> None:
    """Write results.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def show(console: Console, figures: Figures, plan: Plan, found: dict[str, str]) -> None:
    """Print the table."""
    table = Table(title=f"Worker: {' '.join(ARGUMENTS)}", title_justify="left")
    table.add_column("measure")
    table.add_column("this run", justify="right")
    table.add_column("goal on 2 cores", justify="right")
    table.add_column("beside it, in the same run")
    for row in rows(figures, plan):
        table.add_row(*row)
    console.print(table)
    console.print(
        ", ".join(f"{name} {number}" for name, number in found.items()), highlight=False, soft_wrap=True
    )


def rows(figures: Figures, plan: Plan) -> list[tuple[str, str, str, str]]:
    """The table's rows: measure, figure, goal, what to compare it with."""
    result = []
    if one := figures.one:
        share = one.per_s / one.insert_commit_per_s
        result += [
            ("enqueue one", f"{one.per_s:,.0f}/s", "≥ 0.6 × INSERT",
             f"{share:.2f} × INSERT + commit, {one.insert_commit_per_s:,.0f}/s; "
             f"bare Redis script {one.redis_script_per_s:,.0f}/s"),
            ("  CPU of one job", _us(one.producer_us + one.stores_us), "",
             f"producer {one.producer_us:.0f} + stores {one.stores_us:.0f}"),
        ]  # fmt: skip
    if many := figures.many:
        result += [
            ("enqueue many", f"{many.per_s:,.0f}/s", "≥ 30,000/s",
             f"{many.per_s / many.copy_per_s:.2f} × COPY of 1,000, {many.copy_per_s:,.0f}/s"),
            ("  CPU of one job", _us(many.producer_us + many.stores_us), "",
             f"producer {many.producer_us:.1f} + stores {many.stores_us:.1f}"),
        ]  # fmt: skip
    if rebuild := figures.rebuild:
        result += [
            ("rebuild after FLUSHALL", f"{rebuild.per_s:,.0f}/s", "≥ 20,000/s",
             f"{rebuild.per_s / rebuild.read_and_push_per_s:.2f} × reading and pushing bare, "
             f"{rebuild.read_and_push_per_s:,.0f}/s"),
            ("  CPU of one job", _us(rebuild.leader_us + rebuild.stores_us), "",
             f"leader {rebuild.leader_us:.1f} + stores {rebuild.stores_us:.1f}"),
        ]  # fmt: skip
    if holders := figures.holders:
        few = f"{plan.few_holders} holders"
        result.append(
            (f"rebuild, {plan.holders:,} holders", f"{holders.many_per_s:,.0f}/s", f"≥ 0.7 × {few}",
             f"{holders.many_per_s / holders.few_per_s:.2f} × {few}, {holders.few_per_s:,.0f}/s;"
             f" {plan.rebuild:,} jobs, {plan.held:,} of them held")
        )  # fmt: skip
    if drain := figures.drain:
        result += [
            ("drain", f"{drain.per_s:,.0f}/s", "≥ 20,000/s",
             f"{drain.per_s / drain.settle_per_s:.2f} × bare settling by one client, {drain.settle_per_s:,.0f}/s; "
             f"rounds {min(drain.rounds):,.0f} to {max(drain.rounds):,.0f}"),
            ("  CPU of one job", _us(drain.worker_us + drain.stores_us), "≤ 100 µs",
             f"worker {drain.worker_us:.1f} (goal ≤ 60) + PostgreSQL {drain.postgresql_us:.1f} "
             f"+ Redis {drain.redis_us:.1f}"),
        ]  # fmt: skip
        if drain.child_pss_mb is not None:
            result.append(("  a child after it", _mb(drain.child_pss_mb), "", ""))
    if backlog := figures.backlog:
        share = backlog.large_burst_per_s / backlog.small_burst_per_s
        result += [
            (f"drain, {plan.backlog:,} waiting", f"{backlog.per_s:,.0f}/s", "",
             f"{backlog.per_s / drain.per_s:.2f} × drain" if drain else ""),
            (f"  {plan.burst:,} of {plan.backlog:,}", f"{backlog.large_burst_per_s:,.0f}/s",
             f"≥ 0.9 × {plan.small_backlog:,}",
             f"{share:.2f} × {plan.burst:,} of {plan.small_backlog:,}, {backlog.small_burst_per_s:,.0f}/s"),
            ("  CPU of one job", _us(backlog.large_us), "",
             f"{backlog.large_us / backlog.small_us:.2f} × with {plan.small_backlog:,}, {backlog.small_us:.1f} µs"),
            ("  Redis for one job", f"{backlog.redis_bytes_per_job:,.0f} bytes", "", ""),
        ]  # fmt: skip
        if backlog.whole_per_s is not None:
            result.append((f"  all {plan.backlog:,}", f"{backlog.whole_per_s:,.0f}/s", "", ""))
    if latency := figures.latency:
        result += [
            (
                "latency p50",
                f"{latency.p50:.2f} ms",
                "≤ 2 ms",
                f"enqueue() itself {latency.enqueue_ms:.2f} ms; after such pauses a bare INSERT + commit takes"
                f" {latency.insert_ms:.2f} ms, a command of Redis {latency.redis_ms:.2f} ms",
            ),
            ("latency p95", f"{latency.p95:.2f} ms", "", ""),
            ("latency p99", f"{latency.p99:.2f} ms", "≤ 10 ms", ""),
        ]
    if idle := figures.idle:
        result.append(
            ("idle worker, CPU", f"{idle.cpu_percent:.2f} %", "≤ 0.5 %", "of one core, all its processes")
        )
        if idle.child_pss_mb is not None:
            result.append(
                ("idle worker, a child", _mb(idle.child_pss_mb), "≤ 60 MB", "proportional set size")
            )
    return result


def _us(value: float) -> str:
    return f"{value:,.1f} µs"


def _mb(value: float) -> str:
    return f"{value:.1f} MB"
