"""Is everything as it should be? Each check compares the record with the plan and with the outside world."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageOps, ImageStat

from jobqueue_project import tasks
from jobqueue_project.demo import material as materials
from jobqueue_project.demo.mailserver import MailServer
from jobqueue_project.demo.material import Material
from jobqueue_project.demo.plan import Plan
from jobqueue_project.demo.record import Record
from jobqueue_project.demo.webserver import WebServer
from jobqueue_project.models import Product
from queue_app.domain.states import FINAL
from queue_app.queries import queues

#: How far the colours of a thumbnail may be, of 255, from those of the picture scaled by other means (those of
#: another picture are more than 50 away).
COLOUR_TOLERANCE = 25


@dataclass(frozen=True, slots=True)
class World:
    """All that checks look at.

    Attributes:
        record: the jobs, attempts and dead letters of the plan, as the database has them.
        replayed: ids of the jobs that were replayed.
    """

    plan: Plan
    record: Record
    replayed: list[str]
    material: Material
    media: Path
    mail: MailServer
    web: WebServer


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        what: what was checked, with its count.
        problems: what is off; empty when all is well.
    """

    what: str
    problems: list[str]


def run(world: World) -> list[Finding]:
    """Run all checks."""
    return [Finding(*check(world)) for check in CHECKS]


Answer = tuple[str, list[str]]


def _every_job_ended(world: World) -> Answer:
    """Each enqueued job is there once, and in the final state that it should have."""
    plan, jobs = world.plan, world.record.jobs
    problems = [f"job {i} was enqueued and is not in the database" for i in plan.everything if i not in jobs]
    ends = dict.fromkeys(plan.cancelled, "cancelled") | dict.fromkeys(plan.refused, "failed")
    for job in jobs.values():
        want = ends.get(str(job.pk), "succeeded")
        if job.state != want:
            problems.append(f"job {job.pk} ({job.task}) is {job.state}, not {want}")
    ended = Counter(job.state for job in jobs.values() if job.state in FINAL)
    how = ", ".join(f"{count:,} {state}" for state, count in ended.most_common())
    return (
        f"{len(plan.everything):,} jobs enqueued, {len(jobs):,} in the database, all final: {how}",
        problems,
    )


def _attempts_add_up(world: World) -> Answer:
    """Attempts are numbered without a gap; a job that succeeded did so once, in its last attempt."""
    problems = []
    for job_id, job in world.record.jobs.items():
        attempts = world.record.attempts.get(job_id, [])
        if [a.number for a in attempts] != list(range(1, job.attempt + 1)):
            problems.append(
                f"job {job_id} says {job.attempt} attempts and has {[a.number for a in attempts]}"
            )
        succeeded = [a.number for a in attempts if a.state == "succeeded"]
        if succeeded != ([job.attempt] if job.state == "succeeded" else []):
            problems.append(f"job {job_id} is {job.state} and its attempts {succeeded} succeeded")
        if job.state == "cancelled" and attempts:
            problems.append(f"job {job_id} was cancelled before its time, and ran")
        if any(a.state == "failed" and not a.traceback for a in attempts):
            problems.append(f"an attempt of job {job_id} failed without a traceback")
    totals = world.record.totals()
    return f"{totals.attempts:,} attempts, {totals.retries:,} of them retries", problems


def _dead_letters(world: World) -> Answer:
    """What could not succeed died, was replayed and did then; what must not succeed is still there."""
    plan, problems = world.plan, []
    letters: dict[str, list[Any]] = defaultdict(list)
    for letter in world.record.letters:
        letters[str(letter.job_id)].append(letter)
    for job_id in plan.broken:
        if job_id not in letters:
            problems.append(f"job {job_id} could not succeed, and was not in the dead letters")
    for job_id, reason in plan.refused.items():
        if [(letter.reason, letter.replayed_at) for letter in letters[job_id]] != [(reason, None)]:
            problems.append(f"job {job_id} is not in the dead letters as {reason}: {letters[job_id]}")
    for job_id in set(letters) - set(plan.refused):
        if any(letter.replayed_at is None for letter in letters[job_id]):
            problems.append(f"job {job_id} is still in the dead letters")
    replays = Counter(world.replayed)
    if Counter({i: len(found) for i, found in letters.items() if i not in plan.refused}) != replays:
        problems.append("not every dead letter was replayed once")
    what = f"{len(world.record.letters)} dead letters: {len(world.replayed)} replayed"
    return f"{what}, {len(plan.refused)} stay (inside addresses, a page that is not there)", problems


def _results(world: World) -> Answer:
    """What tasks returned is what the demo computes itself."""
    problems = []
    for job_id, want in world.plan.results.items():
        job = world.record.jobs.get(job_id)
        if job is not None and job.return_value != want:
            found = str(job.return_value)[:80]
            problems.append(f"job {job_id} ({job.task}) returned {found!r}, not {str(want)[:80]!r}")
    words = sum(r["words"] for r in world.plan.results.values() if isinstance(r, dict) and "words" in r)
    files = len(world.material.texts)
    return f"{len(world.plan.results):,} results as expected; {words:,} words in {files} files", problems


def _standard_api(world: World) -> Answer:
    """Jobs of Django's own Tasks API, by that API."""
    problems = []
    for job_id, name in zip(world.plan.standard, world.material.texts, strict=False):
        result = tasks.file_digest.get_result(job_id)
        want = hashlib.sha256((world.media / name).read_bytes()).hexdigest()
        if (result.status, result.is_finished) != ("SUCCESSFUL", True) or result.return_value != want:
            problems.append(f"django.tasks result {job_id} is {result.status}")
    if not world.plan.standard:
        return (
            "no Django Tasks API here (it comes with Django 6.0, or with the package django-tasks): left out",
            [],
        )
    return f"{len(world.plan.standard)} results through Django’s Tasks API", problems


def _mail_arrived(world: World) -> Answer:
    """Each mail arrived as it was written: once, as no process died."""
    arrived = Counter(
        (letter.job_id, letter.to, letter.subject, letter.body) for letter in world.mail.letters
    )
    want = Counter((job_id, *letter) for job_id, letter in world.plan.letters.items())
    problems = [f"the mail to {key[1]} did not arrive" for key in want if not arrived[key]]
    problems += [f"the mail to {key[1]} arrived and should not have" for key in arrived if key not in want]
    lost = world.record.lost
    for key, count in (arrived - want).items():
        if key in want and key[0] not in lost:  # at least once: a repeat is right only where a process died
            problems.append(f"the mail to {key[1]} arrived {count + 1} times")
    return (
        f"{len(world.mail.letters)} mails arrived ({world.mail.refused} turned away: mailbox full)",
        problems,
    )


def _pages_served(world: World) -> Answer:
    """Each page was asked for, and nothing inside was reached."""
    answers, problems = world.web.answers, []
    for path in world.plan.pages.values():
        if not answers[path, 200] + answers[path, 302]:
            problems.append(f"the page {path} was never served")
        if path.startswith("/down/") and not answers[path, 503]:
            problems.append(f"the page {path} was never out of order")
    served = sum(count for (_, status), count in answers.items() if status == 200)
    broken = sum(count for (_, status), count in answers.items() if status == 503)
    return f"{served} pages served ({broken} answers 503: out of order)", problems


def _thumbnails(world: World) -> Answer:
    """Each thumbnail is there, fits its box and shows its picture."""
    problems = []
    pictures = {name: Image.open(world.media / name).convert("RGB") for name in world.material.images}
    for source, target, box in world.plan.thumbnails.values():
        want = ImageOps.contain(pictures[source], box)
        try:
            with Image.open(world.media / target) as small:
                off = ImageChops.difference(small.convert("RGB").resize(want.size), want)
                if abs(small.width - want.width) > 1 or abs(small.height - want.height) > 1:
                    problems.append(f"{target} is {small.size}, not {want.size}")
                elif max(ImageStat.Stat(off).mean) > COLOUR_TOLERANCE:
                    problems.append(f"{target} does not look like {source}")
        except OSError as error:
            problems.append(f"{target}: {error}")
    return f"{len(world.plan.thumbnails)} thumbnails show their pictures", problems


def _video(world: World) -> Answer:
    if world.plan.video is None:
        return "no ffmpeg here: no video", []
    job = world.record.jobs[world.plan.video]
    size = (world.media / "small.avi").stat().st_size if (world.media / "small.avi").exists() else 0
    found = job.return_value or {}
    good = size > 0 and found.get("bytes") == size and abs(found["seconds"] - materials.VIDEO_SECONDS) < 0.2
    return f"a video of {found.get('seconds')} s made small", [] if good else [
        f"the video is {found}, {size} bytes"
    ]


def _imported(world: World) -> Answer:
    """Each row of the CSV file is in the database, and the progress says so."""
    rows = Product.objects.filter(sku__startswith="DEMO-").count()
    total = materials.CATALOGUE_ROWS
    problems = [] if rows == total else [f"{rows:,} of {total:,} rows were imported"]
    last = Product.objects.filter(sku=f"DEMO-{total - 1:05}").first()
    if last is None or not last.name.endswith("– naïve") or last.stock != (total - 1) * 7 % 1_000:
        problems.append(f"the last row was imported as {last}")
    for job_id in world.plan.imports:
        progress = json.loads(world.record.jobs[job_id].progress or "[]")
        if progress[:2] != [total, total]:
            problems.append(f"the import’s progress is {progress}")
    return f"{rows:,} rows imported", problems


def _in_time(world: World) -> Answer:
    """No delayed job started before its time."""
    late, problems = [], []
    for job_id, at in world.plan.delayed.items():
        for attempt in world.record.attempts.get(job_id, [])[:1]:
            late.append((attempt.started_at - at).total_seconds())
            if late[-1] < 0:
                problems.append(f"job {job_id} started {-late[-1]:.3f} s too early")
    worst = f", the latest {max(late) * 1000:,.0f} ms after its time" if late else ""
    return f"{len(late)} delayed jobs, none early{worst}", problems


def _rolled_back(world: World) -> Answer:
    """Jobs of a transaction that was rolled back never were."""
    found = world.record.existing(world.plan.rolled_back)
    problems = [f"job {job_id} was rolled back, and is there" for job_id in found]
    return f"{len(world.plan.rolled_back)} jobs of a transaction that was rolled back never were", problems


def _redis_is_empty(world: World) -> Answer:
    """The hot path holds nothing of jobs that have ended."""
    names = world.record.queues()
    depths = queues.depths_of(names)
    if len(depths) < len(names):
        return "Redis holds no job any more", ["Redis did not say what it holds"]
    left = {queue: counts for queue, counts in depths.items() if any(counts.values())}
    return "Redis holds no job any more", [f"in Redis: {left}"] if left else []


CHECKS: tuple[Callable[[World], Answer], ...] = (
    _every_job_ended,
    _attempts_add_up,
    _dead_letters,
    _results,
    _standard_api,
    _mail_arrived,
    _pages_served,
    _thumbnails,
    _video,
    _imported,
    _in_time,
    _rolled_back,
    _redis_is_empty,
)
