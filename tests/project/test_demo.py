"""`manage.py demo` and `manage.py serve` as a user runs them; and the demo's checks, which must be able to fail."""

from __future__ import annotations

import contextlib
import http.cookiejar
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from django.contrib.auth import get_user_model

from bench.runtime.processes import die_with_parent, free_port
from bench.runtime.waiting import wait_until
from bench.runtime.workers import ROOT
from jobqueue_project import local
from jobqueue_project.demo import folder as folders
from tests.support.marks import on_sqlite_alone


class Run:
    """A run of a management command in a process of its own, marked by a variable in its environment.

    Attributes:
        output: what it printed so far, standard output and errors.
    """

    def __init__(self, arguments: list[str], environment: dict[str, str], mark: str) -> None:
        self.mark = mark
        self._log = Path(mark)
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), *arguments],
                env=environment | {"MARK_OF_THE_TEST": mark, "PYTHONUNBUFFERED": "1"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def signal(self, signum: int) -> None:
        """Send a signal to the command itself."""
        self._process.send_signal(signum)

    def wait(self, timeout: float = 150) -> int:
        """Its exit code."""
        wait_until(lambda: self._process.poll() is not None, timeout, lambda: f"its end:\n{self.output}")
        return int(self._process.returncode)

    def wait_for(self, pattern: str, timeout: float = 60) -> re.Match[str]:
        """What it printed that matches; fails at once if it ends without."""

        def seen() -> re.Match[str] | None:
            ended = self._process.poll()
            found = re.search(pattern, self.output)
            assert found or ended is None, f"ended with {ended} without {pattern!r}:\n{self.output}"
            return found

        return wait_until(seen, timeout, lambda: f"{pattern!r} in\n{self.output}")

    def family(self) -> list[str]:
        """The command lines of all processes that it started and that are there, itself included."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and process.environ().get("MARK_OF_THE_TEST") == self.mark:
                    found.append(" ".join(process.cmdline()) or process.name())
        return found

    def nothing_left(self, timeout: float = 20) -> None:
        """Make sure that all its processes end."""
        wait_until(lambda: not self.family(), timeout, lambda: f"the end of {self.family()}")

    def clean_up(self) -> None:
        """End whatever is left of it."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("MARK_OF_THE_TEST") == self.mark:
                    process.kill()
        self._process.wait()


@pytest.fixture
def manage(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts a management command: manage("demo", "--timeout", "5", DATABASE_URL=…) → Run."""
    started: list[Run] = []

    def start(*arguments: str, **variables: str) -> Run:
        environment = os.environ | {"DJANGO_SETTINGS_MODULE": "jobqueue_project.settings"} | variables
        run = Run(list(arguments), environment, str(tmp_path / f"output-{len(started)}"))
        started.append(run)
        return run

    yield start
    for run in started:
        run.clean_up()


# the demo


@pytest.mark.django_db(transaction=True)
def test_the_demo_runs_thousands_of_jobs_and_accounts_for_all(
    manage: Callable[..., Run], worker_env: dict[str, str], tmp_path: Path
) -> None:
    arguments = ["demo", "--folder", str(tmp_path / "a b+c#d%20")]  # characters that URLs must escape
    if "postgresql" in worker_env["DATABASE_URL"]:
        arguments += ["--database", worker_env["DATABASE_URL"]]
    run = manage(*arguments)
    assert run.wait() == 0, run.output
    output = run.output
    assert "✗" not in output and "Traceback" not in output
    assert output.count("✓") == 13
    row = re.search(r"^all +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+) +([\d,]+)", output, re.MULTILINE)
    assert row, output
    jobs, attempts, retries, dead, replayed = (int(cell.replace(",", "")) for cell in row.groups())
    assert jobs >= 2_000
    assert replayed >= 27 and dead == replayed + 4
    assert retries >= 27 * 2 and attempts == jobs - 20 + retries + replayed  # 20 were cancelled
    assert f"All {jobs:,} jobs are final and accounted for" in output
    assert "make serve" in output
    run.nothing_left()
    assert (tmp_path / "a b+c#d%20" / "worker.log").read_text().rstrip().endswith("stopped")


@on_sqlite_alone
def test_the_demo_says_when_its_worker_ends(manage: Callable[..., Run], tmp_path: Path) -> None:
    run = manage("demo", "--folder", str(tmp_path / "demo"))
    pid = int(run.wait_for(r"--grace 5 \(process (\d+)\)").group(1))
    psutil.Process(pid).kill()
    assert run.wait() == 1
    assert "CommandError: The demo failed: The worker ended by itself (signal SIGKILL)." in run.output
    run.nothing_left()


@on_sqlite_alone
def test_the_demo_can_be_interrupted(manage: Callable[..., Run], tmp_path: Path) -> None:
    run = manage("demo", "--folder", str(tmp_path / "demo"))
    run.wait_for("runworker")
    run.signal(signal.SIGINT)
    code = run.wait(20)
    assert code == 130, run.output
    assert "interrupted (SIGINT); everything is stopped" in run.output and "Traceback" not in run.output
    run.nothing_left()


@on_sqlite_alone
def test_a_demo_keeps_others_out_of_its_folder(tmp_path: Path) -> None:
    first = folders.DemoFolder(tmp_path / "demo")
    first.claim()
    (first.media / "a").touch()
    with pytest.raises(
        folders.FolderUnusable, match=r"Another demo runs in .*: wait for it, or name another"
    ):
        folders.DemoFolder(tmp_path / "demo").claim()
    assert (first.media / "a").exists()


@on_sqlite_alone
def test_a_folder_that_is_not_the_demo_s_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "db.sqlite3").write_text("mine")
    with pytest.raises(
        folders.FolderUnusable, match="is not empty and not the demo's: name another with --folder"
    ):
        folders.DemoFolder(tmp_path).claim()
    assert (tmp_path / "db.sqlite3").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["db.sqlite3"]


@on_sqlite_alone
def test_what_the_last_run_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from jobqueue_project.demo.folder import DemoFolder;"
        "DemoFolder(Path(sys.argv[1])).claim()"
    )
    claim = [sys.executable, "-c", code, str(tmp_path / "demo")]
    subprocess.run(claim, cwd=ROOT, check=True)
    (tmp_path / "demo" / "db.sqlite3").write_text("old")
    (tmp_path / "demo" / "media" / "a").mkdir()
    (tmp_path / "demo" / "notes").write_text("mine")
    subprocess.run(claim, cwd=ROOT, check=True)
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [folders.MARK, "media", "notes"]
    assert not list((tmp_path / "demo" / "media").iterdir())


@on_sqlite_alone
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--timeout", "nan"], 2, "'nan' is not a number of seconds"),
        (["--database", "postgresql://x@127.0.0.1:1/x"], 1, "The demo’s database cannot be used"),
        (["--redis", "redis://127.0.0.1:1/0"], 1, "Redis at redis://127.0.0.1:1/0 cannot be reached"),
        (["--folder", "/dev/null/x"], 2, "cannot be made"),
    ],
)
def test_wrong_arguments_are_named(
    manage: Callable[..., Run], tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    run = manage("demo", "--folder", str(tmp_path / "demo"), *arguments)
    assert run.wait(30) == code
    assert message in run.output
    assert "Traceback" not in run.output
    run.nothing_left()


# serve


@pytest.mark.django_db(transaction=True)
def test_serve_runs_everything_in_one_terminal(
    manage: Callable[..., Run], worker_env: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    stores = {"DATABASE_URL": worker_env["DATABASE_URL"], "REDIS_URL": f"embedded://{tmp_path / 'redis'}"}
    run = manage("serve", "--port", str(port), **stores)
    name, password = run.wait_for(r"login +(\S+)  (\S+)").groups()
    site = f"http://127.0.0.1:{port}"
    browser = _browser()
    assert "Log in" in _get(browser, f"{site}/admin/login/")
    assert "Log out" in _log_in(browser, site, name, password)
    assert _get(browser, f"{site}/static/admin/css/base.css")
    listed = re.findall(r"serve +\| \w.* (http://\S+)", run.output)
    assert f"{site}/admin/" in listed
    for url in listed:
        assert _get(browser, url)

    job = subprocess.run(
        [sys.executable, "-c", ENQUEUE],
        env=os.environ | stores | {"DJANGO_SETTINGS_MODULE": "jobqueue_project.settings"},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert job == ["succeeded", "cba"]
    run.wait_for(r"worker \| Subject: Hello")  # mails are shown in the terminal

    second = manage("serve", "--port", str(port), **stores)
    assert second.wait(30) == 1
    assert f"CommandError: Port {port} is taken" in second.output and "--port" in second.output

    run.signal(signal.SIGINT)
    assert run.wait(30) == 0
    assert "everything is stopped" in run.output and "Traceback" not in run.output
    run.nothing_left()
    assert not get_user_model().objects.get(email=local.EMAIL).is_active


ENQUEUE = """
import time, django
django.setup()
from jobqueue_project import tasks
mail = tasks.send_mail.enqueue("ann@demo.example", "Hello", "Ann")
job = tasks.reverse_text.enqueue("abc")
deadline = time.monotonic() + 30
while not (job.is_finished and mail.is_finished) and time.monotonic() < deadline:
    time.sleep(0.02)
    job.refresh()
    mail.refresh()
print(job.status, job.return_value)
"""


def _browser() -> urllib.request.OpenerDirector:
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)


def _get(browser: urllib.request.OpenerDirector, url: str) -> str:
    try:
        with browser.open(url, timeout=20) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode() if error.code == 503 else pytest.fail(f"{url}: {error}")


def _log_in(browser: urllib.request.OpenerDirector, site: str, name: str, password: str) -> str:
    page = _get(browser, f"{site}/admin/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert token
    form = {"csrfmiddlewaretoken": token.group(1), "username": name, "password": password, "next": "/admin/"}
    with browser.open(f"{site}/admin/login/", urllib.parse.urlencode(form).encode(), timeout=20) as answer:
        return answer.read().decode()


@on_sqlite_alone
def test_serve_ends_when_one_of_its_processes_does(manage: Callable[..., Run], tmp_path: Path) -> None:
    stores = {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "REDIS_URL": f"embedded://{tmp_path / 'redis'}",
    }
    run = manage("serve", "--port", str(free_port()), **stores)
    pid = int(run.wait_for(r"\(pid (\d+)\): queues").group(1))
    run.wait_for("Ctrl-C ends it all")
    psutil.Process(pid).kill()
    assert run.wait(30) == 1
    assert "CommandError: The worker ended by itself (signal SIGKILL)." in run.output
    run.nothing_left()


@on_sqlite_alone
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--port", "65536"], 2, "'65536' is not a port"),
        (["--queues", "a,,b"], 1, "queue_name is ''"),
    ],
)
def test_wrong_options_of_serve_are_named(
    manage: Callable[..., Run], tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    run = manage("serve", *arguments, DATABASE_URL=f"sqlite:///{tmp_path / 'db.sqlite3'}")
    assert run.wait(30) == code
    assert message in run.output and "Traceback" not in run.output


@on_sqlite_alone
def test_serve_says_which_store_is_missing(manage: Callable[..., Run], tmp_path: Path) -> None:
    for stores, message in (
        ({"DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}, "The database cannot be used"),
        (
            {"DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}", "REDIS_URL": "redis://127.0.0.1:1/0"},
            "Redis at redis://127.0.0.1:1/0 cannot be reached",
        ),
    ):
        run = manage("serve", "--port", str(free_port()), **stores)
        assert run.wait(30) == 1
        assert message in run.output and "Traceback" not in run.output
        run.nothing_left()


@on_sqlite_alone
@pytest.mark.django_db
def test_the_login_is_for_one_run_and_no_person_s_account_is_touched() -> None:
    users = get_user_model().objects
    person = users.create_superuser("admin", "ann@demo.example", "hers")
    with local.fresh_login() as (name, password):
        assert name == "admin-2"
        user = users.get(username=name)
        assert user.is_superuser and user.is_staff and user.is_active and user.check_password(password)
    user.refresh_from_db()
    assert not user.is_active and not user.check_password(password)
    with local.fresh_login() as again:
        assert again[0] == "admin-2" and again[1] != password
    person.refresh_from_db()
    assert person.check_password("hers") and person.is_active
