"""`manage.py replaydead`: what it chooses, what it says, and what it refuses."""

from __future__ import annotations

import io
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from bench.runtime.workers import ROOT
from queue_app import clock
from queue_app.models import DeadLetter, Job
from tests.support.behind_pages import drain
from tests.support.factories import JobFactory

pytestmark = pytest.mark.django_db(transaction=True)


def run(*options: str, **named: Any) -> str:
    out = io.StringIO()
    call_command("replaydead", *options, stdout=out, **named)
    return out.getvalue()


def dead(count: int = 1, *, age: timedelta = timedelta(0), **fields: Any) -> list[Job]:
    enqueued = clock.now() - age - timedelta(minutes=1)
    return JobFactory.create_batch(count, state="failed", enqueued_at=enqueued, **fields)


def replayed() -> set[Any]:
    return set(Job.objects.filter(state="queued").values_list("pk", flat=True))


def test_all_are_replayed_oldest_first_and_run_again() -> None:
    jobs = dead(3)
    assert run() == "Replayed 3 dead letters.\n"
    assert drain() == [str(job.pk) for job in jobs]
    assert not DeadLetter.objects.filter(replayed_at=None).exists()
    assert run() == "Replayed 0 dead letters.\n"


def test_a_dry_run_changes_nothing() -> None:
    dead(3)
    assert run("--dry-run") == "Would replay 3 dead letters.\n"
    assert run("--dry-run", "--limit", "1") == "Would replay 1 dead letter.\n"
    assert replayed() == set()
    assert DeadLetter.objects.filter(replayed_at=None).count() == 3


def test_options_choose() -> None:
    mail, *_ = dead(task="shop.mail"), dead(task="shop.bill", queue="slow")
    assert run("--task", "shop.mail") == "Replayed 1 dead letter.\n"
    assert replayed() == {mail[0].pk}
    assert run("--task", "shop") == "Replayed 0 dead letters.\n", "a task is named in full"
    assert run("--queue", "slow", "--task", "shop.bill") == "Replayed 1 dead letter.\n"


def test_limit_takes_the_oldest() -> None:
    old = dead(2, age=timedelta(days=2))
    dead(2)
    assert run(limit=2) == "Replayed 2 dead letters.\n"
    assert replayed() == {job.pk for job in old}


@pytest.mark.parametrize(
    "since", ["2h", "1d", "90m", "2d", lambda: (clock.now() - timedelta(days=2)).isoformat()]
)
def test_since(since: Any) -> None:
    dead(age=timedelta(days=3))
    new = dead()
    assert run("--since", since if isinstance(since, str) else since()) == "Replayed 1 dead letter.\n"
    assert replayed() == {new[0].pk}


def test_since_a_date() -> None:
    dead(age=timedelta(days=3))
    day = (clock.now() - timedelta(days=10)).date().isoformat()
    assert run("--dry-run", "--since", day) == "Would replay 1 dead letter.\n"
    assert run("--dry-run", "--since", clock.now().isoformat()) == "Would replay 0 dead letters.\n"


WRONG = [
    (["--limit", "0"], "--limit"),
    (["--limit", "many"], "--limit"),
    (["--limit", "-1"], "--limit"),
    (["--limit", "9" * 30], "--limit"),
    (["--since", "yesterday"], "--since"),
    (["--since", "2026-02-30"], "--since"),
    (["--since", "0001-01-01T00:00:00+14:00"], "--since"),
    (["--since", "9" * 9 + "w"], "--since"),
    (["--since", "2999-01-01"], "future"),
    (["--queue", "no such queue!"], "--queue"),
    (["--task", " "], "--task"),
]


@pytest.mark.parametrize(("options", "named"), WRONG)
def test_wrong_values_are_answered_in_one_line(options: list[str], named: str) -> None:
    dead()
    with pytest.raises(CommandError) as caught:
        run(*[f"{options[0]}={options[1]}"])
    assert named in str(caught.value) and "\n" not in str(caught.value)
    assert replayed() == set()


def test_from_a_shell(worker_env: dict[str, str]) -> None:
    dead(2)

    def shell(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "manage.py"), "replaydead", *options]
        return subprocess.run(command, env=worker_env, cwd=ROOT, capture_output=True, text=True, timeout=60)

    wrong = shell("--limit", "x")
    assert wrong.returncode == 1
    assert wrong.stderr == "CommandError: --limit is 'x'; use a whole number of 1 or more.\n"
    right = shell("--limit", "5")
    assert (right.returncode, right.stdout) == (0, "Replayed 2 dead letters.\n")
    assert len(replayed()) == 2
