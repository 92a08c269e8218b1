"""Readers of environment variables that say in one line what is wrong and what would be right.

django-environ parses; these functions check. A value that cannot be used raises `ImproperlyConfigured`, which
`manage.py` prints without a traceback. No message repeats a URL, because URLs carry passwords.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django
import environ
from django.core.exceptions import ImproperlyConfigured

TRUE = ("1", "true", "yes", "on")
FALSE = ("0", "false", "no", "off", "")
DATABASES = {
    "django.db.backends.sqlite3": "sqlite:///path",
    "django.db.backends.postgresql": "postgresql://user:password@host:port/name",
    "django.db.backends.mysql": "mysql://user:password@host:port/name",
}
REDIS_SCHEMES = ("redis", "rediss", "unix", "embedded")


def read_file(env: environ.Env, path: Path) -> None:
    """Read variables from a file such as `.env`; those that are set already stay.

    Raises:
        ImproperlyConfigured: names the line that cannot be read, and does not repeat it: it may hold a secret.
    """
    lines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not re.match(r"(export )?\w+=", line, re.ASCII):
            raise ImproperlyConfigured(
                f"{path.name}, line {number}, is not NAME=value: correct or remove it."
            )
        lines.append(line)
    env.read_env(io.StringIO("\n".join(lines)))


def flag(env: environ.Env, name: str, default: bool) -> bool:
    """Return the boolean variable `name`; anything but a known spelling of true and false is an error."""
    value = env.str(name, default=str(default)).strip()
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is neither true nor false: write true or false.")


def choice(env: environ.Env, name: str, default: str, allowed: Iterable[str]) -> str:
    """Return the variable `name`, which must be one of `allowed` (lower or upper case alike)."""
    value = env.str(name, default=default).strip()
    by_folded = {word.casefold(): word for word in allowed}
    try:
        return by_folded[value.casefold()]
    except KeyError:
        raise ImproperlyConfigured(f"{name}={value!r} is unknown: use one of {', '.join(allowed)}.") from None


def whole(env: environ.Env, name: str, default: int) -> int:
    """Return the variable `name` as a whole number of at least 0."""
    value = env.str(name, default=str(default)).strip()
    if not value.isdecimal():
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number of 0 or more.")
    return int(value)


def header(env: environ.Env, name: str) -> tuple[str, str] | None:
    """Return the header in the variable `name` as Django looks for it, with the value that it must have; None if unset.

    Both `X-Forwarded-Proto: https` and Django's own `HTTP_X_FORWARDED_PROTO,https` are read.
    """
    value = env.str(name, default="").strip()
    if not value:
        return None
    found = re.fullmatch(r"(?:HTTP_)?([A-Za-z][A-Za-z0-9_\-]*)\s*[:,=]\s*(\S+)", value)
    if not found:
        raise ImproperlyConfigured(
            f"{name}={value!r} names no header with its value: write X-Forwarded-Proto: https."
        )
    return f"HTTP_{found[1].upper().replace('-', '_')}", found[2]


def folder(env: environ.Env, name: str, default: Path, base_dir: Path) -> Path:
    """Return the folder in the variable `name`; a relative one lies below `base_dir`."""
    return base_dir / env.str(name, default=str(default)).strip()


def database(env: environ.Env, name: str, default: str, base_dir: Path) -> dict[str, Any]:
    """Return Django's settings of one database from the URL in the variable `name`.

    A relative SQLite path lies below `base_dir`; its folder is made. SQLite gets write-ahead logging and
    immediate transactions, so that several processes can write without deadlocks; the others keep their
    connections open.
    """
    forms = "; ".join(DATABASES.values())
    value = env.str(name, default=default).strip()
    scheme, separator, _ = value.partition("://")
    named = bool(separator) and scheme.replace("+", "").isalnum()  # else it may be the start of a password
    try:
        with warnings.catch_warnings(action="ignore"):  # they would show the whole URL
            config = dict(environ.Env.db_url_config(value)) if separator else {}
    except (ValueError, TypeError):
        raise ImproperlyConfigured(
            f"{name} is not a database URL: use {forms}; write special characters of the password as %XX."
        ) from None
    if config.get("ENGINE") not in DATABASES:
        raise ImproperlyConfigured(
            f"{name} has {f'the scheme {scheme}' if named else 'no scheme'}: use {forms}."
        )
    if not config["NAME"]:
        raise ImproperlyConfigured(f"{name} names no database: use {DATABASES[config['ENGINE']]}.")
    if config["ENGINE"].endswith("sqlite3"):
        return _sqlite(name, config, base_dir)
    return config | {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}


def _sqlite(name: str, config: dict[str, Any], base_dir: Path) -> dict[str, Any]:
    if config["NAME"] == ":memory:":
        raise ImproperlyConfigured(
            f"{name} names an in-memory database, which other processes such as workers cannot see: "
            "use a file, sqlite:///var/db.sqlite3."
        )
    path = base_dir / config["NAME"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(
            f"{name}: the folder {path.parent} cannot be made ({error.strerror})."
        ) from None
    options = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    return config | {
        "NAME": str(path),
        "OPTIONS": options | config.get("OPTIONS", {}),
        # Django's default, a database in memory, is invisible to the worker processes that tests start.
        "TEST": {"NAME": str(path.with_name("test_" + path.name))},
    }


def redis_url(env: environ.Env, name: str, default: str) -> str:
    """Return the Redis URL in the variable `name` after checking its scheme."""
    value = env.str(name, default=default).strip()
    try:
        parts = urlsplit(value)
        usable = parts.scheme in REDIS_SCHEMES and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ImproperlyConfigured(
            f"{name} is not a Redis URL: use redis://host:port/0, rediss://host:port/0, "
            "unix:///path/redis.sock or embedded:// (a private server, started when needed)."
        )
    return value


def email(env: environ.Env) -> dict[str, Any]:
    """Return Django's e-mail settings from EMAIL_URL or, without it, from EMAIL_HOST and EMAIL_PORT.

    Django 6.1 and later get MAILERS, earlier ones EMAIL_*.
    """
    host, port = env.str("EMAIL_HOST", default="localhost"), whole(env, "EMAIL_PORT", 25)
    url = env.str("EMAIL_URL", default="").strip() or f"smtp://{host}:{port}"
    try:
        config = environ.Env.email_url_config(url)
    except (ImproperlyConfigured, ValueError, TypeError):
        raise ImproperlyConfigured(
            "EMAIL_URL is not an e-mail URL: use smtp://user:password@host:port, smtp+tls://… or consolemail://."
        ) from None
    backend, options = config["EMAIL_BACKEND"], {}
    if backend.endswith(".smtp.EmailBackend"):
        tls, ssl = bool(config.get("EMAIL_USE_TLS")), bool(config.get("EMAIL_USE_SSL"))
        options = {
            "host": config["EMAIL_HOST"] or "localhost",
            "port": config["EMAIL_PORT"] or (587 if tls else 465 if ssl else 25),
            "username": config["EMAIL_HOST_USER"] or "",
            "password": config["EMAIL_HOST_PASSWORD"] or "",
            "use_tls": tls,
            "use_ssl": ssl,
            "timeout": 30,  # seconds; Django's default is to wait for ever
        }
    elif backend.endswith(".filebased.EmailBackend"):
        options = {"file_path": config["EMAIL_FILE_PATH"]}
    if django.VERSION >= (6, 1):
        return {"MAILERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
    older = {"username": "HOST_USER", "password": "HOST_PASSWORD"}
    named = {f"EMAIL_{older.get(name, name.upper())}": value for name, value in options.items()}
    return {"EMAIL_BACKEND": backend} | named


def secret_key(env: environ.Env, default_file: Path | None) -> str:
    """Return SECRET_KEY, or else what the file SECRET_KEY_FILE holds; a missing file gets a random key.

    `default_file` stands in for SECRET_KEY_FILE; with None, one of the two variables is required.
    """
    value = env.str("SECRET_KEY", default="")
    if value:
        return value
    name = env.str("SECRET_KEY_FILE", default="") or default_file
    if not name:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set: put a long random one into the environment or .env (see .env.example); "
            "with DEBUG=true one is made for you."
        )
    path = Path(name)
    try:
        return _kept_key(path)
    except OSError as error:
        raise ImproperlyConfigured(f"SECRET_KEY_FILE {path} cannot be used ({error.strerror}).") from None


def _kept_key(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Linked into place whole: of several processes that start at once, all must read the same key.
        mine = path.with_name(f"{path.name}.{os.getpid()}")
        with open(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(50))
        try:
            os.link(mine, path)
        except FileExistsError:
            pass
        finally:
            mine.unlink()
    key = path.read_text().strip()
    if not key:
        raise ImproperlyConfigured(f"SECRET_KEY_FILE {path} is empty: delete it, and a new key is made.")
    return key
