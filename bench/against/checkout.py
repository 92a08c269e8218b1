"""The files of both versions, each in a folder of its own: alike, and safe from changes while the comparison runs."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.runtime.workers import ROOT
from bench.worker import BenchError


def commit(ref: str) -> str:
    """The full hash of a commit.

    Raises:
        BenchError: git does not know it.
    """
    return _git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", what=ref).decode().strip()


@contextlib.contextmanager
def files_of(ref: str) -> Iterator[Path]:
    """The files of a commit, without touching this checkout; they go with the block.

    Raises:
        BenchError: git does not know it.
    """
    content = _git("archive", "--format=tar", commit(ref), what=ref)
    with tempfile.TemporaryDirectory(prefix="jq-against-") as folder:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


@contextlib.contextmanager
def files_here() -> Iterator[Path]:
    """The files of this checkout as they are now, committed or not; what git ignores is left out.

    Raises:
        BenchError: this is no git checkout.
    """
    listed = _git("ls-files", "--cached", "--others", "--exclude-standard", "-z", what="HEAD")
    with tempfile.TemporaryDirectory(prefix="jq-against-") as folder:
        for name in filter(None, listed.decode().split("\0")):
            if (ROOT / name).is_file():  # not if it is deleted, and not committed yet
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, Path(folder) / name)
        yield Path(folder)


def _git(*arguments: str, what: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True)
    except FileNotFoundError:
        raise BenchError("git is not installed, and --against needs it") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise BenchError(f"git has no commit {what!r} to compare with{said and f' ({said})'}")
    return done.stdout
