"""A network namespace whose only way out is a cable to this machine, which can be cut (Linux, as root, with `ip`)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

_PREFIX = "jq-chaos-"


class NoNetwork(Exception):
    """There can be no network namespace here; the message says why."""


@dataclass(frozen=True, slots=True)
class Network:
    """A namespace and its cable.

    Attributes:
        name: of the namespace.
        cable: the interface at this end.
        host: this machine's address on it.
        range: the addresses of both ends, as CIDR.
    """

    name: str
    cable: str
    host: str
    range: str

    @property
    def prefix(self) -> list[str]:
        """What to put before a command to run it in the namespace."""
        return ["ip", "netns", "exec", self.name]

    def cut(self) -> None:
        """From now on no packet comes through, and neither side is told."""
        _ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        """Packets come through again."""
        _ip("link", "set", self.cable, "up")


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Make a namespace and join it to this one.

    Raises:
        NoNetwork: `ip` or the right to use it is missing.
    """
    if shutil.which("ip") is None:
        raise NoNetwork("there is no `ip` here: apt install iproute2")
    pid = os.getpid()
    name, cable = f"{_PREFIX}{pid}", f"jqc{pid}"
    # 198.18.0.0/15 is kept free for tests of networks (RFC 2544); four addresses of it for each process.
    start = (pid % 16_384) * 4
    subnet = f"198.{18 + start // 65_536}.{start // 256 % 256}"
    host, guest = f"{subnet}.{start % 256 + 1}", f"{subnet}.{start % 256 + 2}"
    _remove_remains()
    try:
        _ip("netns", "add", name)
        try:
            _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("address", "add", f"{host}/30", "dev", cable)
            _ip("link", "set", cable, "up")
            _ip("-n", name, "address", "add", f"{guest}/30", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        except NoNetwork:
            _remove(name, cable)
            raise
    except NoNetwork as error:
        raise NoNetwork(
            f"no network namespace can be made here ({error}); it takes root, or NET_ADMIN"
        ) from None
    try:
        yield Network(name, cable, host, f"{subnet}.{start % 256}/30")
    finally:
        _remove(name, cable)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise NoNetwork((done.stderr or done.stdout).strip() or f"ip {' '.join(arguments)} failed")
    return done.stdout


def _remove(name: str, cable: str) -> None:
    for arguments in (("link", "delete", cable), ("netns", "delete", name)):
        with contextlib.suppress(NoNetwork):
            _ip(*arguments)


def _remove_remains() -> None:
    """Namespaces of runs that were killed."""
    with contextlib.suppress(NoNetwork):
        for line in _ip("netns", "list").splitlines():
            name = line.split()[0]
            if name.startswith(_PREFIX) and not os.path.exists(f"/proc/{name.removeprefix(_PREFIX)}"):
                _remove(name, f"jqc{name.removeprefix(_PREFIX)}")
