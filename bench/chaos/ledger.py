"""An enqueuer's own account of what it committed: a file, so that it does not depend on the stores.

A line before each transaction says what it is about to enqueue, one after it what came of it. A transaction without
the second line, or with an error in it, may or may not have been committed: its answer was lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

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
        """It was committed or rolled back, or nobody knows."""
        self._write({"end": transaction, "result": result, "error": error})

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
    """

    committed: set[str] = field(default_factory=set)
    rolled_back: set[str] = field(default_factory=set)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    transactions: int = 0
    bugs: list[str] = field(default_factory=list)


def read(paths: list[Path]) -> Accounts:
    """Read the ledgers of all enqueuers."""
    accounts = Accounts()
    for path in paths:
        begun: dict[str, tuple[list[str], list[str]]] = {}
        for line in _lines(path):
            if "begin" in line:
                name = str(line["begin"])
                rolled = {int(n) for n in line["rolled_back"]}  # type: ignore[attr-defined]
                numbers = range(int(line["count"]))  # type: ignore[call-overload]
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
            elif "bug" in line:
                accounts.bugs.append(f"{line['bug']}: {line['error']}")
        for name, (keep, rolled_back) in begun.items():  # its enqueuer was killed in it
            accounts.unknown[name] = keep
            accounts.rolled_back.update(rolled_back)
    return accounts


def _lines(path: Path) -> Iterator[dict[str, object]]:
    for line in path.read_bytes().splitlines():
        yield json.loads(line)
