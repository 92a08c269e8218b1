"""The Lua scripts: one file, one verb. Called by digest; sent again when Redis has forgotten them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError, ResponseError

from queue_app.dispatch.connection import Fenced, put, take

_FOLDER = Path(__file__).with_name("lua")


class Script:
    """One script file.

    Args:
        name: the file's name without `.lua`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = (_FOLDER / f"{name}.lua").read_text()
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: redis.Redis, keys: list[str], args: list[Any]) -> Any:
        """Run the script atomically on the server and return its answer."""
        return self.each(client, keys, [args])[0]

    def each(self, client: redis.Redis, keys: list[str], batches: Iterable[list[Any]]) -> list[Any]:
        """Run the script for each batch of arguments, in order; one is on its way while another is answered.

        `client.execute_command` without its repetitions, instruments and call-backs, none of which a script has use
        for, and on a connection of this thread's own: together two thirds of the processor time of a call.
        """
        connection = take(client)
        sent: list[list[Any]] = []
        answers: list[Any] = []
        for args in batches:
            connection.send_command("EVALSHA", self.sha, len(keys), *keys, *args)
            sent.append(args)
            if len(sent) - len(answers) > 1:
                answers.append(_answer(connection))
        while len(answers) < len(sent):
            answers.append(_answer(connection))
        for n, answer in enumerate(answers):
            if isinstance(answer, NoScriptError):
                connection.send_command("EVAL", self.source, len(keys), *keys, *sent[n])
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
    answers = [script(client, first_keys, first_args)]  # alone, so that Redis knows the script afterwards
    if len(calls) == 1:
        return answers
    connection = take(client)
    packed = [("EVALSHA", script.sha, len(keys), *keys, *args) for keys, args in calls[1:]]
    connection.send_packed_command(connection.pack_commands(packed))
    answers += [_answer(connection) for _ in packed]
    put(client, connection)
    return _raised(answers)


def ask(client: redis.Redis, *commands: tuple[Any, ...]) -> tuple[Any, list[Any]]:
    """Plain commands on the connection that scripts use; one round trip.

    Returns:
        None, and the answers.
    """
    connection = take(client)
    connection.send_packed_command(connection.pack_commands(commands))
    answers = [_answer(connection) for _ in commands]
    put(client, connection)
    return None, _raised(answers)


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _raised(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, ResponseError):
            raise Fenced(*answer.args) if str(answer).startswith("FENCED") else answer
    return answers


push = Script("push")
claim = Script("claim")
settle = Script("settle")
give_back = Script("give_back")
restore = Script("restore")
find = Script("find")
hold = Script("hold")
lead = Script("lead")
park = Script("park")
fence = Script("fence")
offer = Script("offer")
forget = Script("forget")
holders = Script("holders")
figures = Script("figures")
