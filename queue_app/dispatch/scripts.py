"""The Lua scripts: one file, one verb. Called by digest; sent again when Redis has forgotten them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError

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
        try:
            return _command(client, "EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return _command(client, "EVAL", self.source, len(keys), *keys, *args)


def _command(client: redis.Redis, *words: Any) -> Any:
    """`client.execute_command` without its repetitions, instruments and call-backs, none of which a script has use
    for: half of the processor time of a call. A connection that fails is closed by itself before it is released."""
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_command(*words)
        return connection.read_response()
    finally:
        pool.release(connection)


push = Script("push")
claim = Script("claim")
settle = Script("settle")
give_back = Script("give_back")
restore = Script("restore")
find = Script("find")
hold = Script("hold")
