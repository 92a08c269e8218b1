"""Whether a folder may hold the embedded server: files of other users must not be used or overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from queue_app.exceptions import StoreUnavailable

#: The only files in such a folder.
FILES = frozenset({"lock", "users", "redis.conf", "redis.log", "redis.pid", "redis.sock"})


def check(path: Path) -> Path:
    """The real path of the folder, if it is only ours. Files are written there, and its server is trusted.

    Raises:
        StoreUnavailable: others made it, can write to it, or keep something else in it.
    """
    ours, link = os.geteuid(), path.lstat()
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (ours, 0):
        raise _refusal(path, "it is a link that another user made")
    folder = path.resolve()
    found = folder.stat()
    if found.st_uid != ours:
        raise _refusal(folder, "it belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refusal(folder, "others can write to it: chmod go-w")
    for name in sorted(os.listdir(folder)):
        try:
            file = (folder / name).lstat()
        except FileNotFoundError:  # a server that ends removes its files
            continue
        plain = stat.S_ISSOCK(file.st_mode) or (stat.S_ISREG(file.st_mode) and file.st_nlink == 1)
        if name not in FILES or file.st_uid != ours or not plain:
            raise _refusal(folder, f"it holds {name!r}, which was not made for it")
    return folder


def _refusal(folder: Path, why: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"embedded:// does not use the folder {folder}: {why}. Name one of your own: embedded:///absolute/folder."
    )
