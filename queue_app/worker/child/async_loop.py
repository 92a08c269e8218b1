"""The event loop of a child: asynchronous tasks share one, in a thread of its own, as their libraries' pools."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Set
from typing import Any

from asgiref.sync import sync_to_async

from queue_app.exceptions import Cancelled, SoftTimeout
from queue_app.lifecycle import database


class AsyncLoop:
    """Started at the first asynchronous task.

    Args:
        cancelled: the ids of jobs of this child that were cancelled; looked at when one begins.
    """

    def __init__(self, cancelled: Set[str] = frozenset()) -> None:
        self._cancelled = cancelled
        #: Job → what runs its coroutine; used in the loop alone.
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(
        self,
        func: Callable[..., Any],
        args: list[Any],
        kwargs: dict[str, Any],
        seconds: float | None,
        job_id: str = "",
    ) -> Any:
        """Run a coroutine function to its end, and return or raise what it does.

        Args:
            seconds: after so many the coroutine is cancelled and SoftTimeout is raised; None: no limit.
            job_id: for `cancel`.

        Raises:
            Cancelled: `cancel` was called, and the coroutine let itself be cancelled.
        """
        return asyncio.run_coroutine_threadsafe(
            self._tidied(func, args, kwargs, seconds, job_id), self._started()
        ).result()

    def cancel(self, job_id: str) -> None:
        """Cancel the coroutine of a job, if it runs here; its id is among the cancelled ones already. Called by the
        main thread's signal handler."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, job_id)

    def _cancel(self, job_id: str) -> None:
        task = self._tasks.get(job_id)
        if task is not None:
            task.cancel()

    async def _tidied(
        self,
        func: Callable[..., Any],
        args: list[Any],
        kwargs: dict[str, Any],
        seconds: float | None,
        job_id: str,
    ) -> Any:
        try:
            task = asyncio.current_task()
            if job_id and task is not None:
                self._tasks[job_id] = task
            try:
                if job_id in self._cancelled:
                    raise Cancelled
                return await _limited(func, args, kwargs, seconds)
            finally:
                self._tasks.pop(job_id, None)  # what follows is not the task's, and must not be cancelled
        except asyncio.CancelledError:
            if job_id in self._cancelled:
                raise Cancelled from None
            raise
        finally:
            # The ORM's synchronous half runs in asgiref's thread: its connections are tidied there.
            await sync_to_async(database.tidy, thread_sensitive=True)(getattr(func, "__qualname__", "?"))

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
