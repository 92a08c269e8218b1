"""Tasks that do real work, one for each kind of job that a site has. `manage.py demo` runs them all.

Each takes a `failure_rate` from 0 to 1 for trying out retries: that share of its attempts raises `DemoFailure`.
They read and write files below MEDIA_ROOT only, and may be run twice: the second time changes nothing.
"""

from __future__ import annotations

import csv
import hashlib
import io
import random
import shutil
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from itertools import islice
from typing import Any

from bs4 import BeautifulSoup
from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.core.mail import EmailMessage
from django.db import connection
from PIL import Image, ImageOps, UnidentifiedImageError
from soupsieve import SelectorSyntaxError

from jobqueue_project.fetch import ForbiddenAddress, UnexpectedAnswer, fetch
from jobqueue_project.models import Product
from queue_app import Discard, JobContext, Retry, task

#: Short delays, so that retries can be watched: 0.2 s, 0.4 s, … with jitter.
QUICK: dict[str, Any] = {"base": 0.2, "factor": 2.0, "cap": 2.0}
#: No retry makes them go away.
NO_SUCH_FILE = (FileNotFoundError, SuspiciousFileOperation)
#: Rows that are imported in one transaction.
IMPORT_CHUNK = 500

#: Where the tasks' files are: MEDIA_ROOT. Names that lead out of it raise SuspiciousFileOperation.
files = FileSystemStorage(allow_overwrite=True)


class DemoFailure(Exception):
    """Raised on purpose, as often as failure_rate says."""


def fail_sometimes(rate: float) -> None:
    """Raise DemoFailure with this probability, from 0 to 1."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise Discard(f"failure_rate is {rate!r}; use a number from 0 to 1.")
    if random.random() < rate:
        raise DemoFailure(f"On purpose: failure_rate is {rate:g}.")


@task(queue_name="text", backoff=QUICK)
def reverse_text(text: str, *, failure_rate: float = 0.0) -> str:
    """The text backwards."""
    fail_sometimes(failure_rate)
    return text[::-1]


@task(queue_name="text", priority="low", backoff=QUICK | {"never": NO_SUCH_FILE})
def count_words(name: str, *, failure_rate: float = 0.0) -> dict[str, int]:
    """How many lines, words and characters a text file has."""
    fail_sometimes(failure_rate)
    with files.open(name) as file:
        text = file.read().decode(errors="replace")
    return {"lines": len(text.splitlines()), "words": len(text.split()), "characters": len(text)}


@task(queue_name="images", timeout=30, backoff=QUICK | {"never": (*NO_SUCH_FILE, UnidentifiedImageError)})
def make_thumbnail(
    source: str, target: str, width: int, height: int, *, failure_rate: float = 0.0
) -> dict[str, Any]:
    """Scale an image to fit into a box, keeping its proportions; the format is that of the target's suffix."""
    fail_sometimes(failure_rate)
    with files.open(source) as file, Image.open(file) as image:
        image.draft("RGB", (width, height))  # lets a JPEG be decoded at a smaller scale
        small = ImageOps.exif_transpose(image)
        small.thumbnail((width, height))
        if target.lower().endswith((".jpg", ".jpeg")):
            small = small.convert("RGB")
        content = io.BytesIO()
        content.name = target  # tells Pillow the format
        small.save(content)
    name = files.save(target, ContentFile(content.getvalue()))
    return {"name": name, "width": small.width, "height": small.height, "bytes": content.tell()}


@task(queue_name="mail", priority="high", timeout=30, max_attempts=3, takes_context=True, backoff=QUICK)
def send_mail(context: JobContext, to: str, subject: str, body: str, *, failure_rate: float = 0.0) -> int:
    """Send an e-mail through Django's e-mail backend. A mail server can tell a repeated one by its X-Job-ID."""
    fail_sometimes(failure_rate)
    return EmailMessage(subject, body, to=[to], headers={"X-Job-ID": context.job_id}).send()


@task(queue_name="web", timeout=30, max_attempts=3, backoff=QUICK | {"never": ForbiddenAddress})
def scrape_page(url: str, selector: str = "title", *, failure_rate: float = 0.0) -> dict[str, str | None]:
    """The text of the first element that a CSS selector finds on a public page, or None.

    Addresses inside this network are refused, unless SCRAPE_ALLOWED_HOSTS names the host.
    """
    fail_sometimes(failure_rate)
    try:
        page = fetch(url, settings.SCRAPE_ALLOWED_HOSTS)
    except UnexpectedAnswer as error:
        if 300 <= error.status < 500 and error.status not in (408, 429):
            raise Discard(str(error)) from None  # it would be the same the next time
        raise Retry(str(error), after=error.retry_after) from None
    soup = BeautifulSoup(page.body, "html.parser", from_encoding=page.encoding)
    try:
        found = soup.select_one(selector)
    except SelectorSyntaxError as error:
        raise Discard(f"The selector {selector!r} cannot be read: {error}") from None
    return {"url": page.url, "text": found.get_text(" ", strip=True) if found else None}


@task(queue_name="imports", timeout=300, takes_context=True, backoff=QUICK | {"never": NO_SUCH_FILE})
def import_products(context: JobContext, name: str, *, failure_rate: float = 0.0) -> dict[str, int]:
    """Import a CSV file with the columns sku, name, price and stock; a product that is there is updated."""
    with files.open(name) as file, io.TextIOWrapper(file.file, encoding="utf-8", newline="") as lines:
        total = sum(1 for _ in csv.reader(lines)) - 1
        lines.seek(0)
        rows = _products(name, csv.DictReader(lines))
        done = 0
        while chunk := list(islice(rows, IMPORT_CHUNK)):
            if done <= total // 2 < done + len(chunk):
                fail_sometimes(failure_rate)  # in the middle: what was imported so far is imported again
            by_sku = {product.sku: product for product in chunk}  # a product named twice: the last row counts
            Product.objects.bulk_create(by_sku.values(), update_conflicts=True, **_conflict())
            done += len(chunk)
            context.progress(done, total, "products")
    return {"rows": done}


def _products(name: str, rows: csv.DictReader[str]) -> Iterator[Product]:
    for row in rows:
        try:
            yield Product(
                sku=row["sku"], name=row["name"], price=Decimal(row["price"]), stock=int(row["stock"])
            )
        except (KeyError, TypeError, ValueError, InvalidOperation) as error:
            raise Discard(f"{name}, line {rows.line_num}: {error!r}") from None


def _conflict() -> dict[str, Any]:
    target = {"unique_fields": ["sku"]} if connection.features.supports_update_conflicts_with_target else {}
    return {"update_fields": ["name", "price", "stock"], **target}


# The same queue through Django's own Tasks API: of Django 6.0, or of the backport before it.

if find_spec("django.tasks"):
    from django.tasks import task as standard_task
elif find_spec("django_tasks"):
    from django_tasks import task as standard_task
else:
    standard_task = None

if standard_task is not None:

    @standard_task(queue_name="default", priority=10)
    def file_digest(name: str, failure_rate: float = 0.0) -> str:
        """The SHA-256 of a file, in hexadecimal digits."""
        fail_sometimes(failure_rate)
        with files.open(name) as file:
            return hashlib.file_digest(file.file, "sha256").hexdigest()


# A worker on a machine without ffmpeg does not know this task: its jobs wait for one that does.

if shutil.which("ffmpeg"):
    from jobqueue_project import video

    @task(queue_name="images", timeout=600, takes_context=True, backoff=QUICK | {"never": NO_SUCH_FILE})
    def process_video(
        context: JobContext, source: str, target: str, width: int, *, failure_rate: float = 0.0
    ) -> dict[str, Any]:
        """Scale a video to a width; the format is that of the target's suffix."""
        fail_sometimes(failure_rate)
        if not files.exists(source):
            raise FileNotFoundError(f"There is no {source} in MEDIA_ROOT.")
        return video.scale(files.path(source), files.path(target), width, context.progress)
