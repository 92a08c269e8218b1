"""Why a process died, as far as its keeper or another worker can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from queue_app.domain.delivery import Delivery

if TYPE_CHECKING:
    from queue_app.domain.outcome import Outcome

#: Makes an outcome of a delivery whose process died while it ran, given when it started (epoch seconds).
Verdict = Callable[[Delivery, float | None], "Outcome"]


@dataclass(slots=True)
class Cause:
    """Why a process died, and what it was running.

    Attributes:
        text: for people: "killed by SIGKILL", "exit code 3", "no heartbeat for 15 s".
        running: id → epoch seconds at which its attempt began, of the jobs that were under way. None where that is
            not known (another host): then every job it held is taken to have been running.
        verdicts: id → outcome, for jobs that the supervisor killed on purpose (time limit).
        blameless: no job is to blame (the worker was told to stop, or is not heard of any more): the loss is in the
            job's history and does not count as a death.
        importing: those of `running` whose task's module was being imported.
    """

    text: str
    running: dict[str, float] | None = None
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    blameless: bool = False
    importing: frozenset[str] = frozenset()

    @property
    def counts(self) -> bool:
        """Whether the death counts against the job that ran. Of several that ran together it may have been any: they
        become suspects, and the next death counts, as each suspect is run alone."""
        return not self.blameless and (self.running is None or len(self.running) <= 1)

    def words(self, delivery: Delivery) -> str:
        """The cause, as the attempt of this job tells it."""
        text = self.text
        if delivery.id in self.importing:
            text += f", while importing {delivery.task.rpartition('.')[0]}"
        others = len(self.running or ()) - 1
        if others > 0 and not self.blameless:
            text += f", with {others} other job{'s' * (others > 1)} in it: this one is run alone next time"
        return text
