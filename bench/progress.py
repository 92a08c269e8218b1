"""What is going on, shown without a thread of its own: it would use the CPU that is being measured."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Progress:
    """Bars on a terminal, drawn only when something is reported; and a line for each result, anywhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, highlight=False, soft_wrap=True)

    def rounds(self, title: str, count: int) -> Iterator[int]:
        """The numbers 1 to `count`, one for each round that begins."""
        with self.bar(title, count) as tell:
            for number in range(1, count + 1):
                yield number
                tell(1)

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar; the function that is given out is told how much was done."""
        task = self._bars.add_task(title, total=total)
        self._bars.refresh()

        def tell(count: int) -> None:
            self._bars.advance(task, count)
            self._bars.refresh()

        try:
            yield tell
        finally:
            self._bars.remove_task(task)
