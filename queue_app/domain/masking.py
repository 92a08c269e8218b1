"""What of a Redis URL may be said in messages: where the server is, never who logs in there, or with what.

A URL whose parts are in doubt is masked as a whole: a password with an unescaped `/` looks like a host and a path.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

REDIS_SCHEMES = ("redis", "rediss", "unix", "embedded")

#: Shorter secrets would leave their pattern behind when each is replaced in a text.
LEAST = 4

_scheme = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]{0,15})://").match
_place = re.compile(r"(\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._\-]+)?\]|[A-Za-z0-9._\-]*)(:\d{1,5})?").fullmatch
_database = re.compile(r"/*\d*/*").fullmatch
_plain = re.compile(r"[\d.]+|true|false|yes|no|none", re.IGNORECASE).fullmatch


def scheme_of(url: str) -> str:
    """The scheme before `://`, in lower case; empty if there is none."""
    found = _scheme(url)
    return found[1].lower() if found else ""


def is_clear(url: str) -> bool:
    """Whether it is a URL of a Redis whose parts are what they seem to be."""
    return _parts(url) is not None


def masked(url: str) -> str:
    """A Redis URL without what must not be read: `rediss://***:***@host:6379/0?***`."""
    parts = _parts(url)
    if parts is None or "@" in parts.query:
        scheme = scheme_of(url)
        return f"{scheme}://***" if scheme in REDIS_SCHEMES else "***"
    login, at, place = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    hidden = ("***" if user else "") + (":***" if colon else "") + at
    return f"{parts.scheme}://{hidden}{place}{parts.path}{'?***' if parts.query else ''}"


def without_secrets(text: str, url: str) -> str:
    """A text of a client or server, with `***` for what it repeats of a Redis URL's secrets.

    Returns:
        The text; empty if a secret is so short that its replacement would tell it.
    """
    for secret in sorted(_secrets(url), key=len, reverse=True):
        if secret in text:
            if len(secret) < LEAST:
                return ""
            text = text.replace(secret, "***")
    return text


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    place = parts.netloc.rpartition("@")[2]
    scheme = scheme_of(url)
    if scheme not in REDIS_SCHEMES or parts.fragment or not url.isprintable() or port == 0:
        return None
    if scheme == "embedded":
        return None if parts.netloc or parts.query else parts
    if scheme == "unix":
        return None if place else parts
    return parts if _place(place) and _database(parts.path) else None


def _secrets(url: str) -> set[str]:
    """All spellings of the URL's login and of its options that are no plain numbers or words."""
    rest = url.partition("://")[2] or url
    login = rest.rpartition("@")[0]
    found = {url, login, *login.partition(":")[::2]}
    for option in rest.partition("?")[2].split("&"):
        name, _, value = option.partition("=")
        if not _plain(value) or "pass" in name or "user" in name:
            found.add(value or name)
    found |= {unquote(one) for one in found} | {unquote_plus(one) for one in found}
    return found - {""}
