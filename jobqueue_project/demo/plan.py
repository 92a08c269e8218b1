"""The demo's jobs: how each is enqueued, and what is expected of it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone

from jobqueue_project import tasks
from jobqueue_project.demo import material as materials
from jobqueue_project.demo.mailserver import FULL_DOMAIN
from jobqueue_project.demo.material import Material
from jobqueue_project.demo.webserver import WebServer, headline, lead
from queue_app.operations import jobs
from queue_app.operations.actor import Actor

#: How many jobs of each kind there are; word counts and digests: one for each file of the repository.
REVERSALS, DELAYED, CANCELLED, ROLLED_BACK = 1_000, 60, 20, 25
MAILS, MAILS_TO_FULL, PAGES, PAGES_DOWN, PAGES_MOVED = 300, 12, 380, 15, 20
#: Mails that are enqueued without a transaction, and how many of the others share one.
MAILS_ALONE, MAILS_TOGETHER = 60, 30
THUMBNAIL_BOXES = ((320, 320), (160, 160), (96, 96), (64, 64), (32, 48))
#: The share of attempts that fail on purpose.
FAILURE_RATE = 0.15
#: The worker's queues and weights; `default` is that of Django's own Tasks API.
QUEUES = "mail:4,web:4,imports:4,images:2,text:2,default:2"


@dataclass(slots=True)
class Plan:
    """What was enqueued; ids of jobs as text.

    Attributes:
        results: id → what the job must return.
        delayed: id → when it may start.
        cancelled: jobs cancelled before their time.
        rolled_back: jobs of a transaction that was rolled back.
        letters: id → recipient, subject and body of a mail.
        pages: id → path, of every page that can be scraped in the end.
        refused: jobs that must stay in the dead letters → why (a DeadReason).
        thumbnails: id → source, target and box.
        imports: jobs that import the catalogue.
        standard: jobs enqueued through Django's own Tasks API.
        broken: jobs that cannot succeed until the servers are repaired.
        everything: all jobs but those rolled back.
        enqueued: told how many there are so far.
    """

    results: dict[str, Any] = field(default_factory=dict)
    delayed: dict[str, datetime.datetime] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    rolled_back: list[str] = field(default_factory=list)
    letters: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    thumbnails: dict[str, tuple[str, str, tuple[int, int]]] = field(default_factory=dict)
    imports: list[str] = field(default_factory=list)
    standard: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    video: str | None = None
    everything: list[str] = field(default_factory=list)
    enqueued: Callable[[int], object] = bool

    def add(self, results: Iterable[Any]) -> list[str]:
        """Note enqueued jobs; returns their ids."""
        ids = [result.id for result in results]
        self.everything += ids
        self.enqueued(len(self.everything))
        return ids


def enqueue(plan: Plan, material: Material, media: Path, web: WebServer) -> None:
    """Enqueue all jobs of the demo into `plan`."""
    _texts(plan, material, media)
    _standard(plan, material)
    _mails(plan)
    _pages(plan, web)
    _thumbnails(plan, material)
    _import(plan, material)
    _delayed(plan)
    _cancelled(plan)
    _rolled_back(plan)


def _texts(plan: Plan, material: Material, media: Path) -> None:
    parts = materials.parts(media, material.texts, REVERSALS)
    # Many calls at once: one transaction, one round trip to Redis.
    calls = [((part,), {"failure_rate": FAILURE_RATE if n % 10 == 0 else 0}) for n, part in enumerate(parts)]
    for job_id, part in zip(plan.add(tasks.reverse_text.enqueue_many(calls)), parts, strict=True):
        plan.results[job_id] = part[::-1]
    # One by one, inside a transaction: they run when it commits.
    with transaction.atomic():
        for name in material.texts:
            text = materials.text_of(media / name)
            counts = {"lines": len(text.splitlines()), "words": len(text.split()), "characters": len(text)}
            (job_id,) = plan.add([tasks.count_words.enqueue(name)])
            plan.results[job_id] = counts


def _standard(plan: Plan, material: Material) -> None:
    if tasks.standard_task is None:
        return
    with transaction.atomic():
        for name in material.texts:
            plan.standard += plan.add([tasks.file_digest.enqueue(name)])


def _mails(plan: Plan) -> None:
    for number in range(MAILS_ALONE):
        _mail(plan, number)
    for first in range(MAILS_ALONE, MAILS, MAILS_TOGETHER):
        with transaction.atomic():
            for number in range(first, min(MAILS, first + MAILS_TOGETHER)):
                _mail(plan, number)


def _mail(plan: Plan, number: int) -> None:
    full = number < MAILS_TO_FULL
    to = f"reader{number}@{FULL_DOMAIN if full else 'demo.example'}"
    letter = (
        to,
        f"Hello, reader {number} – “naïve” ☕",
        f"Dear reader {number},\nthis is mail {number}.",
    )
    rate = FAILURE_RATE if not full and number % 5 == 0 else 0.0
    (job_id,) = plan.add([tasks.send_mail.enqueue(*letter, failure_rate=rate)])
    plan.letters[job_id] = letter
    if full:
        plan.broken.append(job_id)


def _pages(plan: Plan, web: WebServer) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = []
    paths, expected = [], []
    for number in range(PAGES):
        kind = "down" if number < PAGES_DOWN else "moved" if number < PAGES_DOWN + PAGES_MOVED else "pages"
        selector, text = (("title", headline(number)), ("article > p.lead", lead(number)))[number % 2]
        rate = FAILURE_RATE if kind == "pages" and number % 5 == 0 else 0.0
        calls.append(((web.url(f"/{kind}/{number}"), selector), {"failure_rate": rate}))
        paths.append(f"/{kind}/{number}")
        found = f"/pages/{number}" if kind == "moved" else paths[-1]
        expected.append({"url": web.url(found), "text": text})
    ids = plan.add(tasks.scrape_page.using(priority="high").enqueue_many(calls))
    plan.pages = dict(zip(ids, paths, strict=True))
    plan.results.update(zip(ids, expected, strict=True))
    plan.broken += ids[:PAGES_DOWN]
    # What a scraper must refuse: addresses inside this network, directly and behind a redirect. And a page that is
    # not there: its task gives up at once.
    inside = [f"http://127.0.0.2:{web.port}/pages/1", f"http://[::1]:{web.port}/pages/1", web.url("/inside")]
    for url in inside:
        plan.refused[plan.add([tasks.scrape_page.enqueue(url)])[0]] = "not_retryable"
    plan.refused[plan.add([tasks.scrape_page.enqueue(web.url("/nowhere"))])[0]] = "discarded"


def _thumbnails(plan: Plan, material: Material) -> None:
    for source in material.images:
        with transaction.atomic():  # all sizes of a picture, or none
            for width, height in THUMBNAIL_BOXES:
                target = source.replace("images/", f"thumbnails/{width}x{height}/")
                job = tasks.make_thumbnail.enqueue(source, target, width, height, failure_rate=FAILURE_RATE)
                plan.thumbnails[plan.add([job])[0]] = (source, target, (width, height))
    if material.video is not None:
        plan.video = plan.add([tasks.process_video.enqueue(material.video, "small.avi", 160)])[0]


def _import(plan: Plan, material: Material) -> None:
    job = tasks.import_products.enqueue(material.catalogue, failure_rate=0.5)
    plan.imports += plan.add([job])
    plan.results[job.id] = {"rows": materials.CATALOGUE_ROWS}


def _delayed(plan: Plan) -> None:
    with transaction.atomic():
        for number in range(DELAYED):
            at = timezone.now() + datetime.timedelta(seconds=1 + number % 20 / 10)
            job = tasks.reverse_text.using(run_after=at, priority=number % 3).enqueue(f"delayed {number}")
            plan.delayed[plan.add([job])[0]] = at
            plan.results[job.id] = f"delayed {number}"[::-1]


def _cancelled(plan: Plan) -> None:
    later = tasks.send_mail.using(run_after=3_600)
    calls = [((f"reader{n}@cancelled.example", "Never sent", ""), {}) for n in range(CANCELLED)]
    plan.cancelled = plan.add(later.enqueue_many(calls))
    jobs.cancel(Actor.command("manage.py demo"), plan.cancelled)


class _Undo(Exception):
    """Rolls the transaction back."""


def _rolled_back(plan: Plan) -> None:
    """Jobs of a transaction that fails: they never were."""
    try:
        with transaction.atomic():
            for number in range(ROLLED_BACK):
                job = tasks.send_mail.enqueue(f"reader{number}@rolled-back.example", "Never sent", "")
                plan.rolled_back.append(job.id)
            raise _Undo
    except _Undo:
        pass
