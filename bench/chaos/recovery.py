"""How long it took after each fault until everything went on.

*Jobs back*: from the fault until the last job that the victim was running was taken from it and delivered again, as its
`lost` attempts say; after Redis was emptied, until it had been filled again.

*Flow*: from the end of the cause (the kill itself; the process continued, the server up, the cable mended) until each
worker that it hit has done work again: until the next effect from its place; of a new process, where one was killed. So
it includes the time until the dead one is replaced, and that of its start. A worker that another fault hits meanwhile
is left out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median

from bench.chaos.account import Account, Effect
from bench.chaos.arena import Fault


@dataclass(slots=True)
class Figures:
    """Of all faults of one kind. Seconds; None where nothing could be measured."""

    count: int = 0
    inflight: int = 0
    back: list[float] = field(default_factory=list)
    flow: list[float] = field(default_factory=list)


def middle(values: list[float]) -> float | None:
    return median(values) if values else None


def most(values: list[float]) -> float | None:
    return max(values) if values else None


def measure(account: Account, faults: list[Fault]) -> dict[str, Figures]:
    """The figures of each kind of fault."""
    by_place: dict[int, list[Effect]] = defaultdict(list)
    for effect in account.timeline:
        by_place[effect.place].append(effect)
    times = {place: [effect.at for effect in effects] for place, effects in by_place.items()}
    result: dict[str, Figures] = defaultdict(Figures)
    for fault in faults:
        figures = result[fault.kind]
        figures.count += 1
        figures.inflight += len(fault.inflight)
        back = fault.rebuilt if fault.rebuilt is not None else _back(account, fault, faults)
        if back is not None:
            figures.back.append(back)
        flows = []
        for place in fault.places:
            after = _next(by_place[place], times.get(place, []), fault)
            if after is not None and not _disturbed(place, fault, after, faults):
                flows.append(after - fault.ended)
        if flows:
            figures.flow.append(max(flows))
    return dict(result)


def _next(effects: list[Effect], times: list[float], fault: Fault) -> float | None:
    start = bisect_right(times, fault.ended)
    if not fault.new_process:
        return times[start] if start < len(times) else None
    known = {effect.pid for effect in effects[:start]}
    return next((effect.at for effect in effects[start:] if effect.pid not in known), None)


def _disturbed(place: int, fault: Fault, until: float, faults: list[Fault]) -> bool:
    return any(
        other is not fault and place in other.places and other.began <= until and other.ended >= fault.began
        for other in faults
    )


def _back(account: Account, fault: Fault, faults: list[Fault]) -> float | None:
    """From the lost attempts of the victim; their times are of whoever took the jobs back, so none counts while some
    worker's clock was wrong."""
    ends = [
        attempt.finished_at
        for job_id in fault.inflight
        for attempt in account.attempts.get(job_id, ())
        if attempt.state == "lost" and attempt.worker in fault.workers and attempt.finished_at >= fault.began
    ]
    if not ends:
        return None
    last = max(ends)
    if any(f.kind == "clock" and f.began <= last and f.ended >= fault.began for f in faults):
        return None
    return last - fault.began
