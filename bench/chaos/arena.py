"""What a run takes place in: private stores, a cable, the crew; and what was in flight when a fault came."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from bench.chaos.crew import Crew
from bench.chaos.network import Network, NoNetwork, network
from bench.chaos.plan import Plan
from bench.runtime.servers import postgresql_server, redis_server
from bench.stores import Stores


@dataclass(slots=True)
class Fault:
    """A fault that was made.

    Attributes:
        began, ended: epoch seconds; what caused the trouble was there in between (equal for a kill).
        places: the workers that it hit; all, if it hit a store.
        workers: ids of the workers that it hit.
        inflight: ids of the jobs that the workers it hit were holding at that moment.
        new_process: whether only another process than before can show that work flows again.
        rebuilt: seconds until Redis, emptied, was filled again; None for other faults.
    """

    number: int
    kind: str
    detail: str = ""
    began: float = 0.0
    ended: float = 0.0
    places: tuple[int, ...] = ()
    workers: tuple[str, ...] = ()
    inflight: frozenset[str] = frozenset()
    new_process: bool = False
    rebuilt: float | None = None


@dataclass(slots=True)
class Arena:
    """Everything that faults can be done to.

    Attributes:
        no_network: why there is no cable to cut; empty if there is one.
        redis_options: more arguments with which Redis, and a replica of it, is started.
    """

    plan: Plan
    folder: Path
    stores: Stores
    crew: Crew
    network: Network | None
    no_network: str
    redis_options: tuple[str, ...] = ()
    redis_lock: threading.Lock = field(default_factory=threading.Lock)
    postgresql_lock: threading.Lock = field(default_factory=threading.Lock)
    _starter: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "servers"))

    def client(self) -> redis.Redis:
        """A client that does not wait long."""
        return self.stores.redis.client(decode_responses=True, socket_timeout=2, socket_connect_timeout=2)

    def start(self, server: Any, *arguments: Any) -> None:
        """Start a server again. In a thread that lasts: the kernel ends it with the thread that started it."""
        self._starter.submit(server.start, *arguments).result()

    def held(self, *, by: tuple[str, ...] | None = None) -> frozenset[str]:
        """Ids of the jobs that children hold.

        Args:
            by: ids of the workers whose children are meant; None for all.

        Returns:
            None at all while Redis does not answer: what it knew was counted when it went.
        """
        found: set[str] = set()
        with contextlib.suppress(redis.RedisError, OSError), self.client() as client:
            for key in client.scan_iter("{jq:*}:*:held:*", count=1_000):
                if by is None or key.rpartition(":held:")[2].rpartition(".")[0] in by:
                    found.update(client.hkeys(key))
        return frozenset(found)

    @contextlib.contextmanager
    def claims_stopped(self) -> Iterator[frozenset[str]]:
        """For a moment no worker can claim or settle; gives the jobs in flight then."""
        with contextlib.suppress(redis.RedisError, OSError), self.client() as client:
            client.execute_command("CLIENT", "PAUSE", 2_000, "WRITE")
        try:
            yield self.held()
        finally:
            with contextlib.suppress(redis.RedisError, OSError), self.client() as client:
                client.execute_command("CLIENT", "UNPAUSE")

    def epochs(self) -> frozenset[str]:
        """The names of the epochs of Redis's data that are whole; none while what was lost has not been put back."""
        from queue_app.dispatch import epochs

        with self.client() as client:
            found = epochs.read(client).values()
        return frozenset(epoch.name for epoch in found if epoch.phase == epochs.WHOLE and not epoch.lost)

    def wait_for_rebuild(
        self, since: float, stale: frozenset[str] = frozenset(), seconds: float = 30.0
    ) -> float | None:
        """Wait until Redis says again that it knows everything. Returns the seconds since `since`.

        Args:
            stale: what it says although it does not.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(redis.RedisError, OSError):
                if self.epochs() - stale:
                    return time.time() - since
            time.sleep(0.02)
        return None

    def query(self, sql: str, *values: Any) -> list[Any]:
        """Ask the database, in autocommit mode."""
        with self.stores.connect() as connection:
            return connection.execute(sql.encode(), values or None).fetchall()


@contextlib.contextmanager
def arena(plan: Plan, folder: Path, say: Callable[[str], None]) -> Iterator[Arena]:
    """Start the stores; the crew is started by the caller, when the tables are there.

    Raises:
        ServerUnavailable: says what to install.
    """
    with contextlib.ExitStack() as stack:
        cable, why_not = None, ""
        try:
            cable = stack.enter_context(network())
        except NoNetwork as error:
            why_not = str(error)
            if "network" in plan.kinds:
                say(f"!!! SKIPPED: the network faults: {why_not}. !!!")
        addresses = ["127.0.0.1"] + ([cable.host] if cable else [])
        options = ("--bind", *addresses, "--protected-mode", "no")
        redis_one = stack.enter_context(redis_server(None, *options, tcp=True))
        postgresql = stack.enter_context(
            postgresql_server(listen_addresses=",".join(addresses), max_connections="200")
        )
        stores = Stores(postgresql, redis_one)
        environment = stores.environment() | {
            "DJANGO_SETTINGS_MODULE": "bench.chaos.settings",
            "PYTHONUNBUFFERED": "1",
        }
        remote = {}
        if cable:
            with open(postgresql.folder / "data" / "pg_hba.conf", "a") as file:
                file.write(f"host all all {cable.range} trust\n")
            with stores.connect() as connection:
                connection.execute("SELECT pg_reload_conf()")
            remote = {
                name: environment[name].replace("127.0.0.1", cable.host)
                for name in ("REDIS_URL", "DATABASE_URL")
            }
        crew = Crew(
            folder,
            environment,
            remote,
            cable,
            lease=plan.lease,
            seed=plan.seed,
            rate=plan.rate,
            enqueuers=plan.enqueuers,
        )
        stack.callback(crew.clean_up)
        yield Arena(plan, folder, stores, crew, cable, why_not, options)
