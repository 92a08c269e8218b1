"""P9, where a child runs several jobs at once: only who died alone is to blame."""

from __future__ import annotations

from pathlib import Path

from queue_app.models import DeadLetter, Job
from tests.app import tasks
from tests.support.marks import committed, on_postgresql_alone
from tests.support.whole_workers import (
    StartWorker,
    attempts,
    wait_for_end,
    wait_for_lines,
)

pytestmark = [committed, on_postgresql_alone]


def test_who_ran_beside_a_killer_is_not_to_blame(worker: StartWorker, tmp_path: Path) -> None:
    process = worker("--processes", "1", "--slots", "2", settings={"POISON_AFTER": 2})
    innocent = tasks.label.enqueue(str(tmp_path), "innocent", "", 1.0).id
    wait_for_lines(tmp_path, "innocent")
    killer = tasks.die_by.enqueue(str(tmp_path), "killer", times=99).id
    assert wait_for_end([innocent, killer]) == ["succeeded", "failed"]
    assert attempts(innocent) == ["lost", "succeeded"]
    assert attempts(killer) == ["lost"] * 3, "once beside another, which does not count, and twice alone"
    rows = {str(job.pk): job for job in Job.objects.all()}
    assert (rows[innocent].deaths, rows[innocent].suspect) == (0, False)
    assert rows[killer].deaths == 2
    letter = DeadLetter.objects.get()
    assert (str(letter.job_id), letter.reason) == (killer, "poison")
    assert process.stop() == 0


def test_suspects_are_run_one_by_one_and_others_after_them(worker: StartWorker, tmp_path: Path) -> None:
    """Two that kill whoever runs beside them, many that do not; all with an end of their own."""
    folder = str(tmp_path)
    worker("--processes", "1", "--slots", "4", settings={"POISON_AFTER": 2})
    first = tasks.label.enqueue(folder, "innocent", "first", 0.5).id
    wait_for_lines(tmp_path, "innocent")
    killers = [tasks.die_by.enqueue(folder, f"killer {n}", times=99).id for n in range(2)]
    rest = [tasks.label.enqueue(folder, "innocent", n, 0.05).id for n in range(10)]
    assert wait_for_end([first, *killers, *rest]) == ["succeeded"] + ["failed"] * 2 + ["succeeded"] * 10
    assert set(Job.objects.exclude(pk__in=killers).values_list("deaths", "suspect")) == {(0, False)}
    assert DeadLetter.objects.filter(job_id__in=killers, reason="poison").count() == 2


def test_a_suspect_is_left_to_a_child_that_has_room(worker: StartWorker, tmp_path: Path) -> None:
    """One child is at a job without an end; the other one is free."""
    folder = str(tmp_path)
    worker("--processes", "2", "--slots", "2")
    endless = tasks.wait_for_file.enqueue(folder, "endless", "release").id
    wait_for_lines(tmp_path, "endless")
    suspect = tasks.die_by.enqueue(folder, "suspect").id
    assert wait_for_end([suspect]) == ["succeeded"]
    assert Job.objects.get(pk=endless).state in ("queued", "running")
    (tmp_path / "release").touch()
    assert wait_for_end([endless]) == ["succeeded"]
    assert attempts(suspect) == ["lost", "succeeded"]
    assert Job.objects.get(pk=endless).deaths == 0
