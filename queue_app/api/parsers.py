"""Reading request bodies: JSON in UTF-8, of a bounded size and depth."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import BaseParser

from queue_app import conf
from queue_app.api.errors import TooLarge

#: Bytes of an escaped character in JSON; and bytes for all of a request beside the arguments.
BYTES_PER_ESCAPE = 6
ENVELOPE_BYTES = 65_536
#: Jobs or dead letters that one request changes by default, and at most: it must end before a proxy times out.
DEFAULT_JOBS, MAX_JOBS = 1_000, 10_000

_surrogate = re.compile("[\ud800-\udfff]").search


class StrictJSONParser(BaseParser):
    """Strict JSON: UTF-8 regardless of the header, no NaN, and a bounded size."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The body's value.

        Raises:
            ParseError: it is not JSON.
            ValidationError: names the fields with text that no store could hold.
            TooLarge: more bytes than a job with PAYLOAD_LIMIT could need.
        """
        limit = conf.get().PAYLOAD_LIMIT * BYTES_PER_ESCAPE + ENVELOPE_BYTES
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise TooLarge(f"The request is larger than {limit:,} bytes. Store the data and pass its id.")
        try:
            value = json.loads(body.decode("utf-8"), parse_constant=_refuse)
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
        except ValueError as error:  # of the decoding, the parsing, and numbers of thousands of digits
            raise ParseError(f"The body is not JSON: {error}") from None
        if b"\\ud" in body.lower():  # only an escape can spell one: UTF-8 has none
            _refuse_surrogates(value)
        return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _refuse_surrogates(value: Any) -> None:
    """Refuse text with half of a surrogate pair: it is no character, and UTF-8 cannot write it.

    Raises:
        ValidationError: names the fields with such text.
    """
    said = "This has half of a surrogate pair (\\ud800 to \\udfff), which is no character."
    if not isinstance(value, dict) or any(map(_has_surrogate, value)):
        if _has_surrogate(value):
            raise ParseError(said)
    elif wrong := [name for name, inner in value.items() if _has_surrogate(inner)]:
        raise ValidationError({name[:64]: [said] for name in wrong[:100]})


def _has_surrogate(value: Any) -> bool:
    todo = [value]
    while todo:  # no recursion: the body may be nested deeply
        one = todo.pop()
        if isinstance(one, str):
            if not one.isascii() and _surrogate(one):
                return True
        elif isinstance(one, list):
            todo += one
        elif isinstance(one, dict):
            todo += (*one, *one.values())
    return False


def refuse_unknown(given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse unknown names, instead of ignoring them.

    Raises:
        ValidationError: names each unknown name, with the known name that is most similar.
    """
    takes = f" There are: {', '.join(known)}." if known else " None is taken here."
    unknown = {
        str(name)[:64]: [f"Unknown.{conf.did_you_mean(str(name)[:64], known)}{takes}"]
        for name in list(given)[:100]
        if name not in known
    }
    if unknown:
        raise ValidationError(unknown)
