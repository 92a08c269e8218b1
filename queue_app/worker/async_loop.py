"""The event loop of a child: asynchronous tasks share one, in a thread of its own, as their libraries' pools."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async

from queue_app.exceptions import SoftTimeout
from queue_app.worker import connections


class AsyncLoop:
    """Started at the first asynchronous task."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(
        self, func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], seconds: float | None
    ) -> Any:
        """Run a coroutine function to its end, and return or raise what it does.

        Args:
            seconds: after so many the coroutine is cancelled and SoftTimeout is raised; None: no limit.
        """
        return asyncio.run_coroutine_threadsafe(
            _limited(func, args, kwargs, seconds), self._started()
        ).result()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="async tasks", daemon=True
                )
                self._thread.start()
            return self._loop

    def stop(self) -> None:
        """End the loop and its thread."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


async def _limited(
    func: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], seconds: float | None
) -> Any:
    try:
        if seconds is None:
            return await func(*args, **kwargs)
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await func(*args, **kwargs)
        except TimeoutError:
            if deadline.expired():
                raise SoftTimeout("The attempt reached its time limit.") from None
            raise
    finally:
        # The ORM's synchronous half runs in asgiref's thread: its connections are tidied there.
        await sync_to_async(connections.tidy, thread_sensitive=True)(getattr(func, "__qualname__", "?"))
