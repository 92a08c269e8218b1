"""The Lua scripts, one verb a file. They are called by their digest, and sent again when Redis does not have them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from queue_app.dispatch.connection import DataLost, Fenced, Full, put, take

_FOLDER = Path(__file__).with_name("lua")
_uses = re.compile(r"^Uses +(.+)$", re.MULTILINE).search

#: The first word of a script's refusal → how it is raised.
_REFUSALS: dict[str, type[Exception]] = {"FENCED": Fenced, "LOST": DataLost}


def _add_parts(text: str, parts: dict[str, str]) -> None:
    """Add the parts of `lua/lib` that this text names under "Uses", each after the parts that it uses itself."""
    found = _uses(text)
    for name in found[1].split() if found else ():
        if name not in parts:
            part = (_FOLDER / "lib" / f"{name}.lua").read_text()
            _add_parts(part, parts)
            parts[name] = part


class Script:
    """One script file, preceded by the parts of `lua/lib` that it needs.

    Args:
        name: the file's name without `.lua`.

    Attributes:
        guarded: whether its first argument is what the connection knows of the server's life; `each` adds that.
        source: the Lua text.
        sha: the digest by which Redis finds it.
    """

    def __init__(self, name: str) -> None:
        text = (_FOLDER / f"{name}.lua").read_text()
        parts: dict[str, str] = {}
        _add_parts(text, parts)
        self.name = name
        self.guarded = "life" in parts
        self.source = "".join(parts.values()) + text
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: redis.Redis, keys: list[str], args: list[Any], counted: str = "") -> Any:
        """Run the script atomically on the server and return its answer."""
        return self.each(client, keys, [args], counted)[0]

    def each(
        self, client: redis.Redis, keys: list[str], batches: Iterable[list[Any]], counted: str = ""
    ) -> list[Any]:
        """Run the script for each batch of arguments, in order. One batch is sent while another is answered.

        It uses the thread's own connection, without the retries, instruments and callbacks of
        `client.execute_command`. This saves two thirds of the processor time of a call.

        Args:
            counted: the epoch and the writes that the caller has seen counted (see lib/life.lua); empty: none.

        Returns:
            The answers, in the order of the batches.

        Raises:
            DataLost, Fenced, Full: the script, or Redis, refused the call.
        """
        connection = take(client)
        facts = connection.queue_app_server.argument(counted) if self.guarded else ""
        sent: list[list[Any]] = []
        answers: list[Any] = []
        for args in batches:
            whole = [len(keys), *keys, facts, *args] if facts else [len(keys), *keys, *args]
            connection.send_command("EVALSHA", self.sha, *whole)
            sent.append(whole)
            if len(sent) - len(answers) > 1:
                answers.append(_answer(connection))
        while len(answers) < len(sent):
            answers.append(_answer(connection))
        for n, answer in enumerate(answers):
            if isinstance(answer, NoScriptError):
                connection.send_command("EVAL", self.source, *sent[n])
                answers[n] = _answer(connection)
        put(client, connection)
        return _raised(answers)


def many(client: redis.Redis, script: Script, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
    """Run a script for many sets of keys in one round trip.

    Args:
        calls: `(keys, arguments)` of each call.

    Returns:
        The answers, in the order of the calls.
    """
    if not calls:
        return []
    first_keys, first_args = calls[0]
    answers = [script(client, first_keys, first_args)]  # alone: afterwards Redis has the script
    if len(calls) == 1:
        return answers
    connection = take(client)
    facts = [connection.queue_app_server.argument()] if script.guarded else []
    packed = [("EVALSHA", script.sha, len(keys), *keys, *facts, *args) for keys, args in calls[1:]]
    connection.send_packed_command(connection.pack_commands(packed))
    answers += [_answer(connection) for _ in packed]
    put(client, connection)
    return _raised(answers)


def with_commands(
    client: redis.Redis, script: Script, keys: list[str], args: list[Any], commands: Sequence[tuple[Any, ...]]
) -> tuple[Any, Any, list[Any]]:
    """Run an unguarded script, then plain commands; one round trip.

    Returns:
        The script's answer; what the connection knows of the server; the answers to the commands.
    """
    call = (len(keys), *keys, *args)
    try:
        facts, answers = ask(client, ("EVALSHA", script.sha, *call), *commands)
    except NoScriptError:
        facts, answers = ask(client, ("EVAL", script.source, *call), *commands)
    return answers[0], facts, answers[1:]


def ask(client: redis.Redis, *commands: tuple[Any, ...]) -> tuple[Any, list[Any]]:
    """Run plain commands on the connection that scripts use; one round trip.

    Returns:
        What that connection knows of the server (`connection.ServerFacts`), and the answers.

    Raises:
        DataLost, Fenced, Full: see `Script.each`.
    """
    connection = take(client)
    connection.send_packed_command(connection.pack_commands(commands))
    answers = [_answer(connection) for _ in commands]
    put(client, connection)
    return connection.queue_app_server, _raised(answers)


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _raised(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, ResponseError):
            text = str(answer)
            if "OOM command not allowed" in text:  # Redis 6 puts words before it
                raise Full(text)
            kind = _REFUSALS.get(text.partition(" ")[0])
            raise kind(text) if kind else answer
    return answers


push = Script("push")
claim = Script("claim")
settle = Script("settle")
give_back = Script("give_back")
restore = Script("restore")
find = Script("find")
hold = Script("hold")
lead = Script("lead")
beat = Script("beat")
interrupt = Script("interrupt")
pause = Script("pause")
set_aside = Script("set_aside")
take_set_aside = Script("take_set_aside")
revoke = Script("revoke")
drop = Script("drop")
epoch = Script("epoch")
forget = Script("forget")
holders = Script("holders")
counts = Script("counts")
stray = Script("stray")
remember = Script("remember")
announce = Script("announce")
bind = Script("bind")
