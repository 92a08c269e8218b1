"""Videos, by the program ffmpeg."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Local files alone: a playlist must not make ffmpeg open addresses.
_BASE = ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "file,pipe"]


class VideoFailed(Exception):
    """ffmpeg could not do it; the message is its own."""


def scale(source: str, target: str, width: int, progress: Callable[[float], None]) -> dict[str, Any]:
    """Scale a video, replacing the target as a whole or not at all.

    Args:
        source, target: paths; the target's suffix says its format.
        width: pixels, 16 to 4096; the height follows.
        progress: told the seconds of video that are done.

    Returns:
        `width` in pixels, `seconds` and `bytes` of the new video.

    Raises:
        VideoFailed: with the last line that ffmpeg printed.
    """
    if isinstance(width, bool) or not isinstance(width, int) or not 16 <= width <= 4096:
        raise VideoFailed(f"width is {width!r}; use a whole number of pixels from 16 to 4096.")
    place = Path(target)
    place.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that it can be moved into its place; ffmpeg takes the format from the suffix.
    handle, unfinished = tempfile.mkstemp(suffix=place.suffix, prefix=f".{place.stem}-", dir=place.parent)
    os.close(handle)
    even = width // 2 * 2  # codecs want even numbers
    command = [*_BASE, "-i", f"file:{source}", "-vf", f"scale={even}:-2", "-progress", "pipe:1"]
    try:
        seconds = _run([*command, "-y", f"file:{unfinished}"], progress)
        size = os.stat(unfinished).st_size
        os.chmod(unfinished, 0o644)
        os.replace(unfinished, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
    return {"width": even, "seconds": round(seconds, 2), "bytes": size}


def _run(command: list[str], progress: Callable[[float], None]) -> float:
    """Run ffmpeg to its end; returns the seconds of video that it wrote."""
    seconds = 0.0
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as ffmpeg,
    ):
        try:
            assert ffmpeg.stdout is not None
            for line in ffmpeg.stdout:
                name, _, value = line.strip().partition("=")
                if name == "out_time_us" and value.lstrip("-").isdecimal():
                    seconds = max(seconds, int(value) / 1e6)
                    progress(seconds)
            code = ffmpeg.wait()
        except BaseException:  # a time limit: it must not go on without us
            ffmpeg.kill()
            raise
        if code:
            errors.seek(0)
            said = [line.strip() for line in errors if line.strip()]
            raise VideoFailed(said[-1] if said else f"ffmpeg ended with code {code}.")
    return seconds
