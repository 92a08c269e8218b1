"""What a run prints: the checks, the recoveries, and everything that is known of a job that breaks a promise."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.chaos.account import Account
from bench.chaos.arena import Fault
from bench.chaos.checker import Check
from bench.chaos.plan import KINDS, Plan
from bench.chaos.recovery import Figures, middle, most

#: Log lines that are shown of a job.
LINES = 12


def show(console: Console, plan: Plan, checks: list[Check], recoveries: dict[str, Figures]) -> None:
    """The two tables."""
    table = Table(title=f"What became of it (seed {plan.seed})", title_justify="left")
    for title in ("", "counted", "breaches"):
        table.add_column(title, justify="right" if title == "breaches" else "left", overflow="fold")
    for check in checks:
        bad = len(check.breaches)
        table.add_row(check.name, check.seen, f"[bold red]{bad:,}" if bad else "0")
    console.print(table)

    table = Table(title="Recovery, in seconds", title_justify="left")
    table.add_column("fault")
    for title in ("times", "jobs in flight", "jobs back: median", "max", "flow again: median", "max"):
        table.add_column(title, justify="right")
    for kind, (_, text) in KINDS.items():
        found = recoveries.get(kind)
        if found is not None:
            figures = (middle(found.back), most(found.back), middle(found.flow), most(found.flow))
            table.add_row(text, str(found.count), f"{found.inflight:,}", *map(_seconds, figures))
    console.print(table)


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def breaches(
    checks: list[Check], account: Account, faults: list[Fault], logs: list[Path], *, most: int
) -> Iterator[str]:
    """All that is known of the jobs that break a promise, of at most so many for each check."""
    for check in checks:
        if not check.breaches:
            continue
        yield f"── {check.name}: {len(check.breaches)} breaches"
        for job_id, text in check.breaches[:most]:
            yield f"{job_id} {text}".strip()
            if job_id:
                yield from (f"    {line}" for line in _job(job_id, account, faults, logs))
        if len(check.breaches) > most:
            rest = [job_id or text for job_id, text in check.breaches[most:]]
            yield f"and {len(rest)} more: {', '.join(rest[:200])}"


def _job(job_id: str, account: Account, faults: list[Fault], logs: list[Path]) -> Iterator[str]:
    yield f"row: {account.jobs.get(job_id)}"
    for attempt in account.attempts.get(job_id, ()):
        yield f"{clock_time(attempt.finished_at)} {attempt}"
    for effect in account.effects.get(job_id, ()):
        yield f"{clock_time(effect.at)} {effect}"
    for fault in faults:
        if job_id in fault.inflight:
            yield f"{clock_time(fault.began)} in flight at fault {fault.number}: {fault.kind} {fault.detail}"
    count = 0
    for path in logs:
        with open(path, errors="replace") as file:
            for line in file:
                if job_id in line:
                    count += 1
                    if count <= LINES:
                        yield f"{path.name}: {line.rstrip()[:300]}"
    if count > LINES:
        yield f"and {count - LINES} more lines in the logs"


def clock_time(at: float) -> str:
    """Epoch seconds as the logs say it."""
    return datetime.datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]
