"""Arguments and results are JSON, checked early: an error names the value's path, and nothing is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

from queue_app.exceptions import InvalidArguments, PayloadTooLarge

#: The text of a call without arguments.
NO_ARGUMENTS = "[[],{}]"


def _encoder() -> Callable[[Any], str]:
    """What `json.JSONEncoder(…).encode` does, with its C part made once and not anew for each value."""
    plain = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return plain.encode
    encode = make(None, plain.default, json.encoder.encode_basestring, None, ":", ",", False, False, False)
    return lambda value: "".join(encode(value, 0))


_encode = _encoder()


#: Beyond this Python refuses to turn a number into text, or JSON's text back into a number (4,300 digits).
_LARGEST = 10**1000
#: Levels of lists and dicts; interpreters differ in how many they can take.
DEPTH = 100


def normalize(value: Any, path: str = "value", depth: int = 0) -> Any:
    """A copy of `value` made of JSON types alone: tuples become lists, UTF-8 bytes become text.

    The rules are those of `django.utils.json.normalize_json` (Django 6.0), plus: no NaN or Infinity, no
    U+0000 (PostgreSQL refuses it) and no lone surrogates; keys are strings or whole numbers.

    Raises:
        InvalidArguments: names the path of the first value that is not JSON.
    """
    kind = type(value)
    if kind is str:
        _check_text(value, path)
        return value
    if kind is bool or value is None:
        return value
    if kind is int:
        if not -_LARGEST < value < _LARGEST:
            raise InvalidArguments(
                f"{path} is a whole number of more than 1,000 digits; pass it as a string."
            )
        return value
    if kind is float:
        if not isfinite(value):
            raise InvalidArguments(f"{path} is {value!r}, which JSON cannot hold; pass None or a string.")
        return value
    if kind is list or kind is tuple:  # before the questions to abstract classes, which are slow
        _check_depth(path, depth)
        return [normalize(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, bytes):
        try:
            return normalize(value.decode(), path)
        except UnicodeDecodeError:
            raise InvalidArguments(
                f"{path} is bytes that are not UTF-8; encode them (base64) first."
            ) from None
    _check_depth(path, depth)
    if kind is dict or isinstance(value, Mapping):
        result = {}
        for key, item in value.items():
            if type(key) is int:
                key = str(key)  # as JSON has it, and Django's own normalize_json allows it
            if not isinstance(key, str):
                raise InvalidArguments(
                    f"{path} has the key {key!r} of type {type(key).__name__}; JSON keys are strings."
                )
            _check_text(key, f"a key of {path}")
            result[str(key)] = normalize(item, f"{path}[{key!r}]", depth + 1)
        if len(result) != len(value):
            raise InvalidArguments(f"{path} has one key twice, as a number and as text.")
        return result
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [normalize(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    for plain in (str, bool, int, float):
        if isinstance(value, plain):  # subclasses, such as enum members with a value
            return normalize(plain(value), path)
    raise InvalidArguments(
        f"{path} is of type {kind.__module__}.{kind.__qualname__}, which is not JSON; pass an id, a string or a"
        " plain dict instead."
    )


def _check_depth(path: str, depth: int) -> None:
    if depth > DEPTH:
        raise InvalidArguments(f"{path[:60]}… is nested more than {DEPTH} levels deep, or contains itself.")


def _check_text(text: str, path: str) -> None:
    if "\x00" in text:
        raise InvalidArguments(f"{path} contains the character U+0000, which PostgreSQL cannot store.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidArguments(f"{path} contains a lone surrogate, which is not valid text.") from None


def normal_arguments(args: Any, kwargs: Any, limit: int) -> tuple[str, list[Any], dict[str, Any]]:
    """A call's arguments as JSON text `[[…], {…}]`, and as the values that come out of it.

    Args:
        args: positional arguments, a list or tuple.
        kwargs: keyword arguments, a mapping with string keys.
        limit: the most bytes that the text may have (setting PAYLOAD_LIMIT).

    Raises:
        InvalidArguments: not JSON; names the path, such as `kwargs['user']['born']`.
        PayloadTooLarge: more than `limit` bytes.
    """
    args = normalize(args, "args") if args else []
    kwargs = normalize(kwargs, "kwargs") if kwargs else {}
    text = _encode([args, kwargs])
    if len(text) * 4 > limit:  # a character has at most four bytes: short texts need no count
        size = len(text.encode())
        if size > limit:
            raise PayloadTooLarge(
                f"The arguments are {size:,} bytes of JSON; PAYLOAD_LIMIT is {limit:,}. Store the data and pass its"
                " id, or raise QUEUE_APP['PAYLOAD_LIMIT']."
            )
    return text, args, kwargs


def dump_arguments(args: Any, kwargs: Any, limit: int) -> str:
    """The JSON text of a call's arguments; see `normal_arguments`."""
    return normal_arguments(args, kwargs, limit)[0]


def dump(value: Any, path: str = "value") -> str:
    """The JSON text of `value`.

    Raises:
        InvalidArguments: not JSON; names the path.
    """
    return _encode(normalize(value, path))


def dump_trusted(value: Any) -> str:
    """The JSON text of what is known to be JSON already."""
    return _encode(value)


load = json.loads
