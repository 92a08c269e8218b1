"""CPU seconds and memory of process trees."""

from __future__ import annotations

import contextlib
import sys
import time

import psutil


def cpu_seconds(pid: int) -> float:
    """CPU seconds used so far by a process and all its descendants, those that have ended included."""
    total = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += _own(process.pid, times) + times.children_user + times.children_system
    return total


def pss_mb(pids: list[int]) -> float | None:
    """The largest proportional set size (a page shared by n processes counts 1/n) of these processes, in MB.

    None where the system does not tell it (not Linux).
    """
    sizes = [getattr(psutil.Process(pid).memory_full_info(), "pss", None) for pid in pids]
    known = [size for size in sizes if size is not None]
    return max(known) / 1e6 if known else None


def children_titled(pid: int, title: str) -> list[int]:
    """The descendants of a process whose title in `ps` begins with `title`."""
    found = []
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(title):
                found.append(process.pid)
    return found


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _own(pid: int, times: object) -> float:
    # psutil counts in ticks of 10 ms, too coarse for an idle process: Linux has a clock for each process, whose
    # number is made from the pid (clock_getcpuclockid, which Python does not offer).
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return time.clock_gettime((~pid << 3) | 2)
    return times.user + times.system  # type: ignore[attr-defined]
