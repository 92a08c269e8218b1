"""The rounds of a comparison: before, after, after, before, and so on, so that what drifts hits both alike."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from pathlib import Path

from rich.console import Console

from bench.against import checkout, verdict
from bench.against.side import Side, Used, side
from bench.against.verdict import Pair
from bench.plan import Plan
from bench.progress import Progress

#: What of `--only` can be compared, and what is unless it is given.
MEASURES = ("many", "drain", "latency", "idle")
DEFAULT = ("many", "drain")
#: Parts of a round, which both versions enqueue and drain in turn: what else the machine does changes within seconds.
PARTS = 6


def compare(ref: str, plan: Plan, rounds: int, output: Path, console: Console) -> None:
    """Compare this checkout with the commit `ref`, print the verdicts, and write all figures.

    Args:
        rounds: how often each version is measured.
        output: the file for the figures, as JSON.

    Raises:
        ServerUnavailable: PostgreSQL or Redis cannot be run here.
        BenchError: git does not know the commit, or a measure cannot be trusted.
    """
    names = (checkout.commit(ref)[:10], "this checkout")
    console.print(
        f"Starting stores for {names[0]} ({ref}) and for {names[1]} … ({os.cpu_count()} cores)",
        highlight=False,
    )
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jq-against-")))
        before = stack.enter_context(side("before", stack.enter_context(checkout.files_of(ref)), folder))
        after = stack.enter_context(side("after", stack.enter_context(checkout.files_here()), folder))
        progress = stack.enter_context(Progress(console))
        for one in (before, after):
            stack.enter_context(one.working())
        pairs = [_pair(before, after, plan, progress, number) for number in range(1, rounds + 1)]
    verdicts = verdict.judge(pairs, plan.only)
    verdict.show(console, verdicts, names, rounds)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(verdict.as_json(verdicts, pairs, names), indent=2) + "\n")


def _pair(before: Side, after: Side, plan: Plan, progress: Progress, number: int) -> Pair:
    order = (before, after) if number % 2 else (after, before)
    began = time.monotonic()
    used = {one.name: Used() for one in order}
    for part in range(PARTS):
        for one in order if part % 2 == 0 else order[::-1]:
            used[one.name].add(one.part(plan.jobs // PARTS))
    found = {one.name: used[one.name].figures() | one.at_rest(plan) for one in order}
    pair = found["before"], found["after"]
    shown = [
        m
        for m in verdict.MEASURES
        if m.of in plan.only and m.key not in ("drain_worker_us", "drain_stores_us")
    ]
    said = "; ".join(
        f"{m.title} {verdict.number(pair[0][m.key])} and {verdict.number(pair[1][m.key])} {m.unit}"
        for m in shown
    )
    progress.note(f"round {number}, {time.monotonic() - began:.0f} s: {said}")
    return pair
