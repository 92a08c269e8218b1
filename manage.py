#!/usr/bin/env python
"""The project's command line: `python manage.py help` lists what it can do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Commands for a first look on one's own machine: they need no setup, not even a SECRET_KEY.
LOCAL_COMMANDS = ("demo", "serve")


def main(argv: list[str]) -> None:
    """Run one management command; a wrong setting ends it with one line and exit code 2."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobqueue_project.settings")
    if argv[1:2] and argv[1] in LOCAL_COMMANDS:
        os.environ.setdefault("SECRET_KEY_FILE", str(Path(__file__).resolve().parent / "var" / "secret_key"))
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.stderr.write("manage.py: Django is not installed in this Python: run `make install`.\n")
        sys.exit(2)
    try:
        execute_from_command_line(argv)
    except ImproperlyConfigured as error:
        if "--traceback" in argv:
            raise
        sys.stderr.write(f"manage.py: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv)
