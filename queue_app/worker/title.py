"""What `ps` shows."""

from __future__ import annotations

try:
    from setproctitle import setproctitle as set_title
except ImportError:  # optional

    def set_title(title: str) -> None:
        """Nothing: the package setproctitle is not installed."""


__all__ = ["set_title"]
