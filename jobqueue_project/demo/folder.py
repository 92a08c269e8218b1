"""The demo's folder: its own database, Redis, files and log, so that nothing of the user's is touched."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

#: Names the demo's folder to the process that runs in its environment.
VARIABLE = "DEMO_FOLDER"
#: A file that says that a folder is the demo's, and may be emptied.
MARK = ".jobqueue-demo"
#: What a run leaves in the folder.
CONTENTS = ("db.sqlite3", "db.sqlite3-wal", "db.sqlite3-shm", "media", "redis", "worker.log")


class FolderUnusable(Exception):
    """The folder cannot be used; the message says why and what to do."""


class DemoFolder:
    """A folder for runs of the demo.

    Args:
        path: it is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.media = self.path / "media"
        self.log = self.path / "worker.log"
        self._lock: int | None = None

    @property
    def database_url(self) -> str:
        """Of the run's own SQLite file."""
        return f"sqlite:///{quote(str(self.path / 'db.sqlite3'))}"

    def environment(self, database: str | None, redis: str | None) -> dict[str, str]:
        """The variables for the processes of a run.

        Args:
            database, redis: URLs of a database and a Redis to use instead of the run's own.
        """
        return {
            VARIABLE: str(self.path),
            "DATABASE_URL": database or self.database_url,
            "REDIS_URL": redis or f"embedded://{quote(str(self.path / 'redis'))}",
            "MEDIA_ROOT": str(self.media),
            "DEBUG": "false",  # it makes Django keep every query
            "LOG_FORMAT": "text",
            "LOG_LEVEL": "WARNING",
        }

    def is_active(self, environment: Mapping[str, str] = os.environ) -> bool:
        """Whether this process runs in the folder's environment."""
        return environment.get(VARIABLE) == str(self.path)

    def claim(self) -> None:
        """Make the folder, keep other runs out of it as long as this process lives, and remove what the last one left.

        Raises:
            FolderUnusable: another run uses it, it holds something else, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            mark = self.path / MARK
            if not mark.exists() and any(self.path.iterdir()):
                raise FolderUnusable(
                    f"{self.path} is not empty and not the demo's: name another with --folder."
                )
            self._lock = os.open(mark, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in CONTENTS:
                place = self.path / name
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place)
                else:
                    place.unlink(missing_ok=True)
            self.media.mkdir()
        except BlockingIOError:
            raise FolderUnusable(
                f"Another demo runs in {self.path}: wait for it, or name another folder with --folder."
            ) from None
        except OSError as error:
            raise FolderUnusable(
                f"{self.path} cannot be used ({error.strerror}): name another folder with --folder."
            ) from None
