"""The demo's tasks, each on its own: real files, real servers, and what they must refuse."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core import mail as django_mail
from django.core.exceptions import SuspiciousFileOperation
from django.test import override_settings
from PIL import Image

from bench.runtime.waiting import wait_until
from bench.runtime.workers import ROOT
from jobqueue_project import tasks, video
from jobqueue_project.demo.mailserver import MailServer
from jobqueue_project.demo.webserver import WebServer, headline, lead
from jobqueue_project.models import Product
from queue_app import Discard, Retry
from tests.support.webpages import answering


@pytest.fixture
def media(tmp_path: Path, settings: Any) -> Path:
    """An empty MEDIA_ROOT."""
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.MEDIA_ROOT.mkdir()
    return settings.MEDIA_ROOT


@pytest.fixture
def web(settings: Any) -> Iterator[WebServer]:
    """The demo's web server, from which pages may be fetched."""
    with WebServer() as server:
        settings.SCRAPE_ALLOWED_HOSTS = [server.address]
        yield server


class Context:
    """Notes what a task says of its progress."""

    job_id = "01890000-0000-7000-8000-000000000000"

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def progress(self, *progress: Any) -> None:
        self.said.append(progress)


# failure_rate


def test_failure_rate_decides_how_often_a_task_fails() -> None:
    assert tasks.reverse_text.func("abc", failure_rate=0) == "cba"
    with pytest.raises(tasks.DemoFailure):
        tasks.reverse_text.func("abc", failure_rate=1)
    failed = 0
    for _ in range(400):
        try:
            tasks.fail_sometimes(0.5)
        except tasks.DemoFailure:
            failed += 1
    assert 120 < failed < 280  # 8 standard deviations


@pytest.mark.parametrize("rate", [-0.1, 1.1, "0.5", True, None, float("nan")])
def test_a_wrong_failure_rate_is_given_up_at_once(rate: Any) -> None:
    with pytest.raises(Discard, match=r"failure_rate is .*use a number from 0 to 1"):
        tasks.reverse_text.func("abc", failure_rate=rate)


# texts


def test_words_are_counted(media: Path) -> None:
    (media / "a.txt").write_bytes("one two\r\ndrei 4\n\nünf".encode())
    assert tasks.count_words.func("a.txt") == {"lines": 4, "words": 5, "characters": 20}


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret"])
def test_tasks_reach_no_file_outside_their_folder(media: Path, name: str) -> None:
    (media.parent / "secret").write_text("secret")
    with pytest.raises(SuspiciousFileOperation):
        tasks.count_words.func(name)
    with pytest.raises(SuspiciousFileOperation):
        tasks.make_thumbnail.func(name, "small.png", 10, 10)
    Image.new("RGB", (20, 20)).save(media / "picture.png")
    with pytest.raises(SuspiciousFileOperation):
        tasks.make_thumbnail.func("picture.png", f"{name}.png", 10, 10)
    assert SuspiciousFileOperation in tasks.count_words.backoff["never"]  # no retry


@pytest.mark.skipif(tasks.standard_task is None, reason="no Django Tasks API is installed")
def test_the_digest_is_that_of_the_file(media: Path) -> None:
    (media / "a.txt").write_text("abc")
    assert tasks.file_digest.func("a.txt").startswith("ba7816bf8f01cfea")
    assert tasks.file_digest.queue_name == "default"


# images


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_a_thumbnail_fits_its_box_and_keeps_the_proportions(media: Path, suffix: str, kind: str) -> None:
    Image.new("RGBA", (400, 200), "red").save(media / "picture.png")
    for _ in range(2):  # a second attempt replaces the first one's file
        made = tasks.make_thumbnail.func("picture.png", f"small/a.{suffix}", 100, 100)
    with Image.open(media / "small" / f"a.{suffix}") as small:
        assert (small.size, small.format) == ((100, 50), kind)
        assert small.convert("RGB").getpixel((50, 25))[0] > 200
    assert made == {
        "name": f"small/a.{suffix}",
        "width": 100,
        "height": 50,
        "bytes": (media / "small" / f"a.{suffix}").stat().st_size,
    }
    assert [path.name for path in (media / "small").iterdir()] == [f"a.{suffix}"]


def test_the_camera_s_orientation_is_respected(media: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90°
    Image.new("RGB", (400, 200)).save(media / "picture.jpg", exif=exif)
    assert tasks.make_thumbnail.func("picture.jpg", "small.jpg", 100, 100)["height"] == 100


def test_what_is_no_image_is_not_tried_again(media: Path) -> None:
    (media / "picture.png").write_text("no picture")
    with pytest.raises(tasks.make_thumbnail.backoff["never"]):
        tasks.make_thumbnail.func("picture.png", "small.png", 100, 100)


# mails


def test_a_mail_arrives_as_it_was_written() -> None:
    with MailServer() as server:
        host, port = server.url.removeprefix("smtp://").split(":")
        options: dict[str, Any] = {
            "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "EMAIL_HOST": host,
            "EMAIL_PORT": int(port),
        }
        with _smtp(options):
            assert tasks.send_mail.func(Context(), "ann@demo.example", "Grüße ☕", "Hello,\n.\nAnn ü") == 1
            with pytest.raises(Exception, match="mailbox is full"):
                tasks.send_mail.func(Context(), "bob@full.example", "Hello", "")
            server.empty_mailboxes()
            assert tasks.send_mail.func(Context(), "bob@full.example", "Hello", "") == 1
    first, second = server.letters
    assert (first.to, first.subject, first.body) == ("ann@demo.example", "Grüße ☕", "Hello,\n.\nAnn ü")
    assert (first.job_id, second.to, server.refused) == (Context.job_id, "bob@full.example", 1)


@contextlib.contextmanager
def _smtp(options: dict[str, Any]) -> Iterator[None]:
    import django

    if django.VERSION >= (6, 1):
        mailer = {"host": options["EMAIL_HOST"], "port": options["EMAIL_PORT"]}
        options = {"MAILERS": {"default": {"BACKEND": options["EMAIL_BACKEND"], "OPTIONS": mailer}}}
    with override_settings(**options):
        yield


def test_mails_go_through_the_project_s_backend() -> None:
    tasks.send_mail.func(Context(), "ann@demo.example", "Hello", "")
    assert [message.extra_headers["X-Job-ID"] for message in django_mail.outbox] == [Context.job_id]


# pages


def test_a_page_is_scraped_by_css_selector(web: WebServer) -> None:
    assert tasks.scrape_page.func(web.url("/pages/3")) == {"url": web.url("/pages/3"), "text": headline(3)}
    assert tasks.scrape_page.func(web.url("/moved/3"), "article > p.lead") == {
        "url": web.url("/pages/3"),
        "text": lead(3),
    }
    assert tasks.scrape_page.func(web.url("/pages/3"), "p.absent")["text"] is None
    with pytest.raises(Discard, match="selector 'p\\['"):
        tasks.scrape_page.func(web.url("/pages/3"), "p[")


def test_what_may_be_there_later_is_tried_again(web: WebServer, settings: Any) -> None:
    with pytest.raises(Retry, match="answered 503") as told:
        tasks.scrape_page.func(web.url("/down/3"))
    assert told.value.after is None
    web.repair()
    assert tasks.scrape_page.func(web.url("/down/3"))["text"] == headline(3)
    with answering(429, Retry_After="7") as url:
        settings.SCRAPE_ALLOWED_HOSTS = ["127.0.0.1"]
        with pytest.raises(Retry) as told:
            tasks.scrape_page.func(url)
    assert told.value.after == 7
    with pytest.raises(OSError, match="refused"):  # an exception like any other: its backoff decides
        tasks.scrape_page.func(url)


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_what_will_not_be_there_later_is_given_up(status: int) -> None:
    with (
        answering(status) as url,
        override_settings(SCRAPE_ALLOWED_HOSTS=["127.0.0.1"]),
        pytest.raises(Discard, match=f"answered {status}"),
    ):
        tasks.scrape_page.func(url)


def test_a_page_in_another_encoding_is_read(settings: Any) -> None:
    settings.SCRAPE_ALLOWED_HOSTS = ["127.0.0.1"]
    body = "<title>Grüße</title>".encode("latin-1")
    with answering(200, body, Content_Type="text/html; charset=iso-8859-1") as url:
        assert tasks.scrape_page.func(url)["text"] == "Grüße"


# the import


def _csv(
    path: Path, rows: list[tuple[Any, ...]], header: tuple[str, ...] = ("sku", "name", "price", "stock")
) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.mark.django_db
def test_a_catalogue_is_imported_and_a_second_time_changes_nothing(media: Path) -> None:
    rows = [(f"A-{n}", f'Bolt, "{n}"\nx', "1.50", n) for n in range(1_200)]
    _csv(media / "a.csv", [*rows, ("A-7", "Nut – ü", "2.25", 3)])
    for _ in range(2):
        context = Context()
        assert tasks.import_products.func(context, "a.csv") == {"rows": 1_201}
        assert context.said[-1][:2] == (1_201, 1_201)
        assert [done for done, *_ in context.said] == [500, 1_000, 1_201]
    assert Product.objects.count() == 1_200
    product = Product.objects.get(sku="A-7")
    assert (product.name, product.price, product.stock) == ("Nut – ü", Decimal("2.25"), 3)


@pytest.mark.django_db(transaction=True)
def test_an_import_that_fails_in_the_middle_goes_on_at_the_next_attempt(media: Path) -> None:
    _csv(media / "a.csv", [(f"A-{n}", "Bolt", "1", n) for n in range(2_000)])
    with pytest.raises(tasks.DemoFailure):
        tasks.import_products.func(Context(), "a.csv", failure_rate=1)
    assert Product.objects.count() == 1_000
    tasks.import_products.func(Context(), "a.csv")
    assert Product.objects.count() == 2_000


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("row", "header"),
    [
        (("A", "Bolt", "cheap", 1), ("sku", "name", "price", "stock")),
        (("A", "Bolt", "1", "many"), ("sku", "name", "price", "stock")),
        (("A", "Bolt"), ("sku", "name", "price", "stock")),
        (("A", "Bolt", "1", 1), ("number", "name", "price", "stock")),
    ],
)
def test_a_wrong_row_is_named_and_not_tried_again(
    media: Path, row: tuple[Any, ...], header: tuple[str, ...]
) -> None:
    _csv(media / "a.csv", [("A", "Bolt", "1", 1)] * (header[0] == "sku") + [row], header)
    line = 3 if header[0] == "sku" else 2
    with pytest.raises(Discard, match=f"a.csv, line {line}: "):
        tasks.import_products.func(Context(), "a.csv")


@pytest.mark.django_db
def test_an_empty_catalogue_is_imported(media: Path) -> None:
    (media / "a.csv").touch()
    assert tasks.import_products.func(Context(), "a.csv") == {"rows": 0}


# videos


STAND_IN = """#!{python}
import sys
source, target = (a.removeprefix("file:") for a in sys.argv if a.startswith("file:"))
text = open(source).read()
if text == "broken":
    sys.exit("moov atom not found")
if text == "endless":
    print("out_time_us=1000", flush=True)
    sys.stdin.close()
    import signal; signal.pause()
for seconds in (1, 2):
    print(f"frame=1\\nout_time_us={{seconds}}000000", flush=True)
open(target, "w").write(text + " ".join(sys.argv[sys.argv.index("-vf"):][:2]))
"""


@pytest.fixture
def ffmpeg(tmp_path: Path, monkeypatch: Any) -> Path:
    """A program that stands in for ffmpeg: it prints and writes like it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "ffmpeg"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return program


def test_a_video_is_scaled_with_progress(media: Path, ffmpeg: Path) -> None:
    (media / "a.avi").write_text("video ")
    said: list[float] = []
    made = video.scale(str(media / "a.avi"), str(media / "small" / "a.mp4"), 161, said.append)
    assert (media / "small" / "a.mp4").read_text() == "video -vf scale=160:-2"
    assert (said, made) == ([1.0, 2.0], {"width": 160, "seconds": 2.0, "bytes": 22})


def test_a_video_that_cannot_be_read_leaves_nothing(media: Path, ffmpeg: Path) -> None:
    (media / "a.avi").write_text("broken")
    with pytest.raises(video.VideoFailed, match="moov atom not found"):
        video.scale(str(media / "a.avi"), str(media / "b.avi"), 160, print)
    assert [path.name for path in media.iterdir()] == ["a.avi"]


@pytest.mark.parametrize("width", [0, 15, 5_000, True, "160", 1.5])
def test_a_wrong_width_is_named(media: Path, width: Any) -> None:
    with pytest.raises(video.VideoFailed, match=f"width is {width!r}"):
        video.scale("a", "b", width, print)


def test_a_video_that_is_interrupted_stops_ffmpeg(media: Path, ffmpeg: Path) -> None:
    (media / "a.avi").write_text("endless")

    class TimeUp(Exception):
        pass

    def progress(seconds: float) -> None:
        raise TimeUp

    with pytest.raises(TimeUp):
        video.scale(str(media / "a.avi"), str(media / "b.avi"), 160, progress)
    assert [path.name for path in media.iterdir()] == ["a.avi"]
    wait_until(lambda: str(ffmpeg) not in _commands(), 5, "the end of ffmpeg")


def _commands() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_a_process_without_ffmpeg_does_not_know_the_task(ffmpeg: Path) -> None:
    code = (
        "import django; django.setup(); from queue_app.tasks import registry;"
        "print([name for name in registry.autodiscover() if 'video' in name])"
    )
    without = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if not shutil.which("ffmpeg", path=folder)
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PATH": path},
            cwd=ROOT,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for path in (os.environ["PATH"], without)
    ]
    assert answers == ["['jobqueue_project.tasks.process_video']", "[]"]
