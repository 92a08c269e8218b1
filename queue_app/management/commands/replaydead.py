"""`manage.py replaydead`: run dead jobs again."""

from __future__ import annotations

import getpass
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from queue_app.domain.names import check_queue
from queue_app.exceptions import InvalidOption, StoreUnavailable
from queue_app.models.sql import write_alias
from queue_app.operations import dead_letters
from queue_app.operations.actor import Actor
from queue_app.operations.audit import MAX_REASON_LENGTH
from queue_app.queries import selection


class Command(BaseCommand):
    help = (
        "Run the jobs in the dead letters again, oldest first: all of them, or those that the options choose."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        # Checked in `handle` and not by argparse, which would print the usage beside the one line that matters.
        parser.add_argument("--task", help="only this task, by its dotted path")
        parser.add_argument("--queue", help="only this queue")
        parser.add_argument("--fingerprint", help="only what died of this, as the dead letters show it")
        parser.add_argument(
            "--since", help="only what died since: an ISO date or time, or an age such as 2h or 3d"
        )
        parser.add_argument("--limit", help="at most so many")
        parser.add_argument("--reason", help=f"why, for the audit; at most {MAX_REASON_LENGTH} characters")
        parser.add_argument("--dry-run", action="store_true", help="only say how many would be replayed")

    def handle(self, *args: Any, **options: Any) -> None:
        limit = _limit(options["limit"])
        if options["task"] is not None and not options["task"].strip():
            raise CommandError("--task is empty; give the dotted path of a task, or leave it out.")
        try:
            queue = None if options["queue"] is None else check_queue(options["queue"])
            since = None if options["since"] is None else selection.parse_since(options["since"])
        except InvalidOption as error:
            raise CommandError("--" + str(error).replace("queue_name", "queue", 1)) from None
        reason = _reason(options["reason"])
        given = {
            "task": options["task"],
            "queue": queue,
            "since": since,
            "fingerprint": options["fingerprint"],
        }
        criteria = {name: str(value) for name, value in given.items() if value is not None}
        letters = selection.dead_letters(options["task"], queue, since, options["fingerprint"])
        try:
            if options["dry_run"]:
                self._say("Would replay", letters.using(write_alias())[:limit].count())
                return
            answer = dead_letters.replay_matching(
                Actor.command(_user()), letters, criteria, limit=limit, reason=reason
            )
        except StoreUnavailable as error:
            raise CommandError(str(error)) from None
        except Error as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CommandError(f"The database {write_alias()!r} cannot do this: {why}") from None
        self._say("Replayed", len(answer.done))

    def _say(self, what: str, count: int) -> None:
        self.stdout.write(f"{what} {count:,} dead {'letter' if count == 1 else 'letters'}.")


def _limit(value: Any) -> int | None:
    """The number of `--limit`, as text from the command line or as a number from `call_command`."""
    if value is None:
        return None
    text = str(value)
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise CommandError(f"--limit is {text[:64]!r}; use a whole number of 1 or more.")
    return int(text)


def _reason(value: Any) -> str:
    text = "" if value is None else str(value)
    if len(text) > MAX_REASON_LENGTH:
        raise CommandError(f"--reason has {len(text):,} characters; use at most {MAX_REASON_LENGTH}.")
    return text


def _user() -> str:
    """Who replays, for the audit and the log."""
    try:
        return f"{getpass.getuser()} on the command line"
    except (KeyError, OSError):  # a container's user id without a name
        return "the command line"
