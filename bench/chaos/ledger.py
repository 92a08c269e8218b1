"""An enqueuer's own account of what it committed: a file, so that it does not depend on the stores.

A line before each transaction says what it is about to enqueue, one after it what came of it. A transaction without
the second line, or with an error in it, may or may not have been committed: its answer was lost.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMITTED, ROLLED_BACK, UNKNOWN = "committed", "rolled back", "unknown"


def key(transaction: str, number: int) -> str:
    """The key of a job: the transaction that enqueues it, and its number in it."""
    return f"{transaction}:{number}"


class Ledger:
    """Written by one enqueuer."""

    def __init__(self, path: Path) -> None:
        # One short append is one write: a process that is killed leaves whole lines.
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def begin(self, transaction: str, count: int, rolled_back: list[int]) -> None:
        """A transaction is about to enqueue `count` jobs, and to roll back those with these numbers."""
        self._write({"begin": transaction, "count": count, "rolled_back": rolled_back})

    def end(self, transaction: str, result: str, error: str = "") -> None:
        """It was committed, rolled back, or the outcome is unknown."""
        self._write({"end": transaction, "result": result, "error": error})

    def cancel(self, transaction: str, ids: list[str]) -> None:
        """These jobs are about to be cancelled."""
        self._write({"cancel": transaction, "ids": ids})

    def cancelled(self, transaction: str, done: list[str], requested: list[str]) -> None:
        """These are cancelled, and those were asked to end; the others are as they were."""
        self._write({"cancelled": transaction, "at": time.time(), "done": done, "requested": requested})

    def bug(self, transaction: str, error: str) -> None:
        """Enqueueing raised what it must not raise."""
        self._write({"bug": transaction, "error": error})

    def _write(self, line: dict[str, object]) -> None:
        os.write(self._fd, json.dumps(line).encode() + b"\n")


@dataclass(slots=True)
class Accounts:
    """What all ledgers together say.

    Attributes:
        committed, rolled_back: keys of jobs that must, and must not, be there.
        unknown: transaction → keys of jobs of which all may be there, or none.
        bugs: what enqueueing raised although it must not.
        cancelled: ids of jobs that are cancelled → since when (epoch seconds).
        may_be_cancelled: ids of jobs whose cancellation was requested, or may have been.
    """

    committed: set[str] = field(default_factory=set)
    rolled_back: set[str] = field(default_factory=set)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    transactions: int = 0
    bugs: list[str] = field(default_factory=list)
    cancelled: dict[str, float] = field(default_factory=dict)
    may_be_cancelled: set[str] = field(default_factory=set)


def read(paths: list[Path]) -> Accounts:
    """Read the ledgers of all enqueuers."""
    accounts = Accounts()
    for path in paths:
        begun: dict[str, tuple[list[str], list[str]]] = {}
        asked: dict[str, list[str]] = {}
        for line in _lines(path):
            if "begin" in line:
                name = str(line["begin"])
                rolled = {int(n) for n in line["rolled_back"]}
                numbers = range(int(line["count"]))
                keep = [key(name, n) for n in numbers if n not in rolled]
                begun[name] = (keep, [key(name, n) for n in rolled])
                accounts.transactions += 1
            elif "end" in line:
                keep, rolled_back = begun.pop(str(line["end"]))
                accounts.rolled_back.update(rolled_back)
                if line["result"] == COMMITTED:
                    accounts.committed.update(keep)
                elif line["result"] == ROLLED_BACK:
                    accounts.rolled_back.update(keep)
                else:
                    accounts.unknown[str(line["end"])] = keep
            elif "cancel" in line:
                asked[str(line["cancel"])] = line["ids"]
            elif "cancelled" in line:
                del asked[str(line["cancelled"])]
                accounts.cancelled.update(dict.fromkeys(line["done"], line["at"]))
                accounts.may_be_cancelled.update(line["requested"])
            elif "bug" in line:
                accounts.bugs.append(f"{line['bug']}: {line['error']}")
        for name, (keep, rolled_back) in begun.items():  # its enqueuer was killed in it
            accounts.unknown[name] = keep
            accounts.rolled_back.update(rolled_back)
        for ids in asked.values():  # its answer was lost
            accounts.may_be_cancelled.update(ids)
    return accounts


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        yield json.loads(line)
