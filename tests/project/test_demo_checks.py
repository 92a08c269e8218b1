"""The demo's checks: each must find what is off, or its tick would say nothing."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.utils import timezone
from PIL import Image
from rich.console import Console

from jobqueue_project.demo import checks, material, plan, report
from jobqueue_project.demo.mailserver import Letter
from jobqueue_project.demo.material import Material
from jobqueue_project.demo.plan import Plan
from jobqueue_project.demo.record import Record, percentiles
from jobqueue_project.models import Product
from queue_app.dispatch import connection, queues
from queue_app.lifecycle.entries import entry_of_row
from queue_app.models import Attempt, DeadLetter, Job
from tests.support.factories import JobFactory

pytestmark = pytest.mark.django_db


def world_of(jobs: Plan, tmp_path: Path, **parts: Any) -> checks.World:
    """A world in which nothing else is."""
    empty: dict[str, Any] = {
        "replayed": [],
        "material": Material([], [], "", None),
        "mail": SimpleNamespace(letters=[], refused=0),
        "web": SimpleNamespace(answers=Counter()),
    }
    record = Record(jobs.everything, {i: at.timestamp() for i, at in jobs.delayed.items()})
    return checks.World(plan=jobs, record=record, media=tmp_path, **(empty | parts))


def problems(check: Callable[[checks.World], tuple[str, list[str]]], world: checks.World) -> list[str]:
    """What a check finds."""
    return check(world)[1]


def job_in(jobs: Plan, state: str, **values: Any) -> Job:
    """A job of the plan, with the history of its state."""
    job = JobFactory(state=state, **values)
    jobs.everything.append(str(job.pk))
    return job


def test_every_check_has_a_verdict_and_finds_nothing_in_an_empty_world(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(material, "CATALOGUE_ROWS", 1)
    Product.objects.create(sku="DEMO-00000", name="– naïve", price=1, stock=0)
    found = checks.run(world_of(Plan(), tmp_path))
    assert len(found) == 13
    assert all(finding.what and not finding.problems for finding in found)


def test_a_job_that_is_missing_or_in_the_wrong_state_is_found(tmp_path: Path) -> None:
    jobs = Plan()
    good, cancelled = job_in(jobs, "succeeded"), job_in(jobs, "cancelled")
    refused = job_in(jobs, "failed")
    jobs.cancelled.append(str(cancelled.pk))
    jobs.refused[str(refused.pk)] = "exhausted"
    assert problems(checks._every_job_ended, world_of(jobs, tmp_path)) == []
    running = job_in(jobs, "queued")
    jobs.everything.append("01890000-0000-7000-8000-000000000000")
    jobs.cancelled.append(str(good.pk))
    found = problems(checks._every_job_ended, world_of(jobs, tmp_path))
    assert len(found) == 3
    assert any("01890000" in line and "not in the database" in line for line in found)
    assert any(str(running.pk) in line and "is queued, not succeeded" in line for line in found)
    assert any(str(good.pk) in line and "is succeeded, not cancelled" in line for line in found)


def test_attempts_that_do_not_add_up_are_found(tmp_path: Path) -> None:
    jobs = Plan()
    made = [job_in(jobs, "succeeded", attempt=2) for _ in range(4)]
    assert problems(checks._attempts_add_up, world_of(jobs, tmp_path)) == []
    Attempt.objects.filter(job=made[0], number=1).delete()  # a gap
    Attempt.objects.filter(job=made[1], number=1).update(state="succeeded")  # twice
    Attempt.objects.filter(job=made[2], number=1).update(traceback="")
    Job.objects.filter(pk=made[3].pk).update(state="cancelled")  # and yet it ran
    found = problems(checks._attempts_add_up, world_of(jobs, tmp_path))
    for job in made:
        assert any(str(job.pk) in line for line in found), job
    assert sum("cancelled before its time, and ran" in line for line in found) == 1


def test_dead_letters_that_are_not_as_planned_are_found(tmp_path: Path) -> None:
    jobs = Plan()
    refused, replayed = job_in(jobs, "failed"), job_in(jobs, "succeeded")
    DeadLetter.objects.filter(job=refused).update(reason="discarded")
    DeadLetter.objects.create(job=replayed, reason="exhausted", attempts=3, replayed_at=timezone.now())
    jobs.refused[str(refused.pk)] = "discarded"
    jobs.broken.append(str(replayed.pk))
    again = [str(replayed.pk)]
    assert problems(checks._dead_letters, world_of(jobs, tmp_path, replayed=again)) == []
    assert "not every dead letter was replayed once" in problems(
        checks._dead_letters, world_of(jobs, tmp_path)
    )
    jobs.refused[str(refused.pk)] = "not_retryable"
    assert "not_retryable" in problems(checks._dead_letters, world_of(jobs, tmp_path, replayed=again))[0]
    jobs.refused[str(refused.pk)] = "discarded"
    DeadLetter.objects.filter(job=replayed).update(replayed_at=None)
    found = problems(checks._dead_letters, world_of(jobs, tmp_path, replayed=again))
    assert found == [f"job {replayed.pk} is still in the dead letters"]
    DeadLetter.objects.filter(job=replayed).delete()
    assert "could not succeed" in problems(checks._dead_letters, world_of(jobs, tmp_path))[0]


def test_a_wrong_result_is_found(tmp_path: Path) -> None:
    jobs = Plan()
    job = job_in(jobs, "succeeded", result='"cba"')
    jobs.results[str(job.pk)] = "cba"
    assert problems(checks._results, world_of(jobs, tmp_path)) == []
    jobs.results[str(job.pk)] = "abc"
    assert problems(checks._results, world_of(jobs, tmp_path))[0].endswith("returned 'cba', not 'abc'")


@pytest.mark.skipif(plan.tasks.standard_task is None, reason="no Django Tasks API is installed")
def test_a_wrong_result_of_the_standard_api_is_found(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    jobs = Plan()
    job = job_in(
        jobs,
        "succeeded",
        task="jobqueue_project.tasks.file_digest",
        backend="default",
        payload='[["a"],{}]',
        result=f'"{digest}"',
    )
    jobs.standard.append(str(job.pk))
    files = Material(["a"], [], "", None)
    assert problems(checks._standard_api, world_of(jobs, tmp_path, material=files)) == []
    (tmp_path / "a").write_text("abcd")
    assert len(problems(checks._standard_api, world_of(jobs, tmp_path, material=files))) == 1


def test_mails_that_are_missing_doubled_or_too_many_are_found(tmp_path: Path) -> None:
    jobs = Plan()
    job = job_in(jobs, "succeeded")
    letter = ("ann@demo.example", "Hello", "Ann")
    jobs.letters[str(job.pk)] = letter
    arrived = Letter(*letter, job_id=str(job.pk))

    def found(*letters: Letter) -> list[str]:
        mail = SimpleNamespace(letters=list(letters), refused=0)
        return problems(checks._mail_arrived, world_of(jobs, tmp_path, mail=mail))

    assert found(arrived) == []
    assert found() == ["the mail to ann@demo.example did not arrive"]
    assert found(arrived, arrived) == ["the mail to ann@demo.example arrived 2 times"]
    assert len(found(Letter("ann@demo.example", "Hello", "Anna", str(job.pk)))) == 2  # not as it was written
    assert "should not have" in found(arrived, Letter("x@rolled-back.example", "", "", ""))[0]
    Attempt.objects.filter(job=job).update(state="lost")  # its process died: it may have arrived before
    assert found(arrived, arrived) == []


def test_pages_that_were_not_served_are_found(tmp_path: Path) -> None:
    jobs = Plan(pages={"a": "/pages/1", "b": "/down/2"})
    answers = Counter({("/pages/1", 200): 1, ("/down/2", 200): 1, ("/down/2", 503): 3})
    web = SimpleNamespace(answers=answers)
    assert problems(checks._pages_served, world_of(jobs, tmp_path, web=web)) == []
    del answers["/pages/1", 200], answers["/down/2", 503]
    assert problems(checks._pages_served, world_of(jobs, tmp_path, web=web)) == [
        "the page /pages/1 was never served",
        "the page /down/2 was never out of order",
    ]


def test_thumbnails_that_are_missing_or_wrong_are_found(tmp_path: Path) -> None:
    material._picture(0).save(tmp_path / "0.png")
    material._picture(12).save(tmp_path / "12.png")
    jobs = Plan(thumbnails={"a": ("0.png", "small.png", (64, 64))})
    files = Material([], ["0.png", "12.png"], "", None)

    def found(source: str, size: tuple[int, int]) -> list[str]:
        with Image.open(tmp_path / source) as image:
            image.thumbnail(size)
            image.save(tmp_path / "small.png")
        return problems(checks._thumbnails, world_of(jobs, tmp_path, material=files))

    assert found("0.png", (64, 64)) == []
    assert found("12.png", (64, 64)) == ["small.png does not look like 0.png"]
    assert found("0.png", (32, 32)) == ["small.png is (24, 32), not (48, 64)"]
    (tmp_path / "small.png").unlink()
    assert "No such file" in problems(checks._thumbnails, world_of(jobs, tmp_path, material=files))[0]


def test_a_wrong_video_is_found(tmp_path: Path) -> None:
    jobs = Plan()
    job = job_in(jobs, "succeeded", result='{"width": 160, "seconds": 4.0, "bytes": 3}')
    jobs.video = str(job.pk)
    assert problems(checks._video, world_of(jobs, tmp_path)) != []
    (tmp_path / "small.avi").write_text("abc")
    assert problems(checks._video, world_of(jobs, tmp_path)) == []
    Job.objects.update(result='{"width": 160, "seconds": 1.0, "bytes": 3}')
    assert problems(checks._video, world_of(jobs, tmp_path)) != []


def test_rows_that_are_missing_are_found(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(material, "CATALOGUE_ROWS", 2)
    jobs = Plan()
    job = job_in(jobs, "succeeded", progress='[2, 2, "products"]')
    jobs.imports.append(str(job.pk))
    Product.objects.create(sku="DEMO-00000", name="Bolt – naïve", price=1, stock=0)
    assert len(problems(checks._imported, world_of(jobs, tmp_path))) == 2
    Product.objects.create(sku="DEMO-00001", name="Bolt – naïve", price=1, stock=7)
    assert problems(checks._imported, world_of(jobs, tmp_path)) == []
    Job.objects.update(progress='[1, 2, "products"]')
    assert problems(checks._imported, world_of(jobs, tmp_path)) == [
        "the import’s progress is [1, 2, 'products']"
    ]


def test_a_job_that_started_too_early_is_found(tmp_path: Path) -> None:
    jobs = Plan()
    job = job_in(jobs, "succeeded")
    started = Attempt.objects.get(job=job).started_at
    jobs.delayed[str(job.pk)] = started
    assert problems(checks._in_time, world_of(jobs, tmp_path)) == []
    jobs.delayed[str(job.pk)] = started + timedelta(seconds=0.5)
    assert problems(checks._in_time, world_of(jobs, tmp_path)) == [f"job {job.pk} started 0.500 s too early"]


def test_a_job_that_should_not_exist_is_found(tmp_path: Path) -> None:
    ghost = JobFactory()
    jobs = Plan(rolled_back=[str(ghost.pk)])
    assert problems(checks._rolled_back, world_of(jobs, tmp_path)) == [
        f"job {ghost.pk} was rolled back, and is there"
    ]


def test_what_is_left_in_redis_is_found(tmp_path: Path) -> None:
    jobs = Plan()
    job = job_in(jobs, "succeeded", queue="mail")
    assert problems(checks._redis_is_empty, world_of(jobs, tmp_path)) == []
    queues.push(connection.client(), "mail", [entry_of_row(job)])
    assert problems(checks._redis_is_empty, world_of(jobs, tmp_path))[0].startswith("in Redis: {'mail'")


def test_a_redis_that_does_not_answer_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_in(jobs := Plan(), "succeeded", queue="mail")
    monkeypatch.setattr(checks.queues, "depths_of", lambda wanted: {})
    assert problems(checks._redis_is_empty, world_of(jobs, tmp_path)) == ["Redis did not say what it holds"]


# figures


def test_figures_count_retries_and_replays_apart() -> None:
    first = JobFactory(
        state="succeeded", attempt=5, queue="mail"
    )  # died after three, replayed, one more failure
    DeadLetter.objects.create(job=first, reason="exhausted", attempts=3, replayed_at=timezone.now())
    second = JobFactory(state="cancelled", queue="mail")
    third = JobFactory(state="succeeded", queue="web", attempt=1)
    record = Record([str(job.pk) for job in (first, second, third)], {})
    mail, every = record.of_queue("mail"), record.totals()
    assert (mail.jobs, mail.attempts, mail.retries, mail.dead, mail.replayed) == (2, 5, 3, 1, 1)
    assert (every.jobs, every.attempts, every.retries) == (3, 6, 3)
    assert every.waits == pytest.approx([1.0, 1.0]) and every.runs == pytest.approx([0.5] * 6)
    assert record.queues() == ["mail", "web"]
    late = Record([str(third.pk)], {str(third.pk): third.enqueued_at.timestamp() + 0.75})
    assert late.totals().waits == pytest.approx([0.25], abs=1e-5)
    assert Record([], {}).totals().per_second == 0


def test_percentiles() -> None:
    assert percentiles([]) is None
    assert percentiles([3.0]) == (3.0, 3.0)
    assert percentiles([float(n) for n in range(101)]) == pytest.approx((50.0, 95.0))


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    for queue in ("default", "images"):
        JobFactory.create_batch(2, state="succeeded", attempt=4, queue=queue)
    record = Record([str(pk) for pk in Job.objects.values_list("pk", flat=True)], {})
    screen = Console(width=80, force_terminal=False)
    with screen.capture() as captured:
        screen.print(report.table(record))
    assert "…" not in captured.get()
    assert [line.split()[:4] for line in captured.get().splitlines()[-3:]] == [
        ["default", "2", "8", "6"],
        ["images", "2", "8", "6"],
        ["all", "4", "16", "12"],
    ]


# watching


def watcher(deadline: float, check: Callable[[], None] = lambda: None) -> tuple[report.Watcher, Console]:
    screen = Console(width=110, force_terminal=False)
    return report.Watcher(screen, time.monotonic() + deadline, check), screen


def test_the_watcher_shows_how_far_the_jobs_are() -> None:
    JobFactory(state="retrying")
    JobFactory(state="running", progress='[500, 10000, "products"]')
    JobFactory.create_batch(3, state="succeeded")
    watching, screen = watcher(60)
    watching._next_line = 0.0
    with screen.capture() as captured:
        assert watching.look(5) is False
        assert watching.look(3) is False  # it has looked a moment ago
        watching._next_look = 0.0
        assert watching.look(3) is True
    assert captured.get() == "  3 of 5 jobs final (1 retrying, products 500/10,000)\n"


def test_the_watcher_gives_up_when_the_time_is_up_or_it_makes_no_sense() -> None:
    JobFactory(state="queued")
    with pytest.raises(report.TimeUp, match=r"1 of 1 jobs are not final in time: \{'queued': 1\}"):
        watcher(-1)[0].until_final(1)

    def died() -> None:
        raise RuntimeError("the worker died")

    with pytest.raises(RuntimeError, match="the worker died"):
        watcher(60, died)[0].until_final(1)
