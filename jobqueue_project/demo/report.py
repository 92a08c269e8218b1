"""What the demo shows: a progress bar meanwhile (lines, where no person watches), a table at the end."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable

from django.db.models import Count
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jobqueue_project.demo.checks import Finding
from jobqueue_project.demo.record import Figures, Record, percentiles
from queue_app.domain.states import FINAL, JobState
from queue_app.models import Job

#: Seconds between two looks at the database; and between two lines, where no person watches.
LOOK, LINE = 0.25, 2.0
#: Columns, where there is no terminal to ask.
WIDTH = 110
#: Problems shown of each check.
PROBLEMS = 5

COLUMNS = (
    "queue",
    "jobs",
    "attempts",
    "retries",
    "dead",
    "replayed",
    "wait p50",
    "p95",
    "run p50",
    "p95",
    "per s",
)


class TimeUp(Exception):
    """The jobs were not all final in time; the message says what is missing."""


def console() -> Console:
    """The console for this process's standard output."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=WIDTH)


class Watcher:
    """Shows how far the jobs are, and waits until all are final. Use it with `with`.

    Args:
        screen: where to show it.
        deadline: when to give up, on the monotonic clock.
        check: called at each look; raises where it makes no sense to go on.
    """

    def __init__(self, screen: Console, deadline: float, check: Callable[[], None]) -> None:
        self._screen = screen
        self._deadline = deadline
        self._check = check
        self._next_look = 0.0
        self._next_line = time.monotonic() + LINE
        self._bar = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("jobs final"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=screen,
            disable=not screen.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Watcher:
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.stop()

    def until_final(self, total: int) -> None:
        """Wait until `total` jobs are final.

        Raises:
            TimeUp: the deadline has passed.
        """
        while not self.look(total):
            time.sleep(LOOK)

    def look(self, total: int) -> bool:
        """Show how far `total` jobs are, unless that was done a moment ago.

        Returns:
            Whether all are final.

        Raises:
            TimeUp: the deadline has passed.
        """
        now = time.monotonic()
        if now < self._next_look:
            return False
        states = count_by_state()
        final = sum(states[state] for state in FINAL)
        self._show(states, final, total)
        self._check()
        if final < total and now > self._deadline:
            rest = {state: count for state, count in states.items() if state not in FINAL}
            raise TimeUp(f"{total - final:,} of {total:,} jobs are not final in time: {rest}.")
        self._next_look = time.monotonic() + LOOK
        return final >= total

    def _show(self, states: Counter[str], final: int, total: int) -> None:
        notes = [
            f"{states[state]:,} {state}" for state in (JobState.RETRYING, JobState.FAILED) if states[state]
        ]
        note = ", ".join([*notes, *_progress()])
        self._bar.update(self._task, completed=final, total=total, description=note)
        if not self._screen.is_terminal and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE
            self._screen.print(f"  {final:,} of {total:,} jobs final{f' ({note})' if note else ''}")


def _progress() -> list[str]:
    """What running jobs say of how far they are."""
    rows = Job.objects.filter(state=JobState.RUNNING, progress__isnull=False).values_list(
        "progress", flat=True
    )
    return [f"{note} {done:,.0f}/{total:,.0f}" for done, total, note in map(json.loads, rows) if total]


def count_by_state() -> Counter[str]:
    """How many jobs are in each state; the database holds no others than the demo's."""
    return Counter(dict(Job.objects.order_by().values_list("state").annotate(Count("pk"))))


def table(record: Record) -> Table:
    """The figures of each queue and of all."""
    made = Table(
        title="What the record says (times in ms, attempts per s)",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_footer=True,
    )
    for name, total in zip(COLUMNS, _cells("all", record.totals()), strict=True):
        made.add_column(name, footer=total, justify="left" if name == "queue" else "right", no_wrap=True)
    for queue in record.queues():
        made.add_row(*_cells(queue, record.of_queue(queue)))
    return made


def _cells(queue: str, figures: Figures) -> tuple[str, ...]:
    return (
        queue,
        f"{figures.jobs:,}",
        f"{figures.attempts:,}",
        f"{figures.retries:,}",
        f"{figures.dead:,}",
        f"{figures.replayed:,}",
        *_milliseconds(figures.waits),
        *_milliseconds(figures.runs),
        _rounded(figures.per_second),
    )


def _milliseconds(seconds: list[float]) -> tuple[str, str]:
    found = percentiles(seconds)
    return ("–", "–") if found is None else (_rounded(found[0] * 1000), _rounded(found[1] * 1000))


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def findings(screen: Console, found: list[Finding]) -> list[str]:
    """Show what was checked; returns the problems."""
    for finding in found:
        mark = "[red]✗[/red]" if finding.problems else "[green]✓[/green]"
        screen.print(f"  {mark} {finding.what}", soft_wrap=True)
        for problem in finding.problems[:PROBLEMS]:
            screen.print(f"      {problem}", style="red", markup=False, soft_wrap=True)
        if len(finding.problems) > PROBLEMS:
            screen.print(f"      … and {len(finding.problems) - PROBLEMS:,} more", style="red")
    return [problem for finding in found for problem in finding.problems]
