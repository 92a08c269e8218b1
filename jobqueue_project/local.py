"""What `manage.py serve` needs besides its processes: a login for this run, a free port, the pages there are."""

from __future__ import annotations

import http.client
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth import get_user_model
from django.urls import Resolver404, resolve

HOST = "127.0.0.1"
#: Pages that are listed, where the project has them.
PAGES = (
    ("dashboard", "/dashboard/"),
    ("admin", "/admin/"),
    ("API", "/api/v1/"),
    ("API docs", "/api/docs/"),
    ("health", "/health/ready/"),
)
#: Who the login is for. The address marks the account as this command's: no person's account is ever touched.
USERNAME, EMAIL = "admin", "serve@localhost.invalid"


def port_is_free(port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def answers(port: int) -> bool:
    """Whether the web server there answers, with any status."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("HEAD", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def pages(port: int) -> list[tuple[str, str]]:
    """Name and URL of the pages of this project."""
    found = []
    for name, path in PAGES:
        try:
            resolve(path)
        except Resolver404:
            continue
        found.append((name, f"http://{HOST}:{port}{path}"))
    return found


@contextmanager
def fresh_login() -> Iterator[tuple[str, str]]:
    """A superuser with a new random password, as long as the block lasts: (name, password)."""
    users = get_user_model()
    password = secrets.token_urlsafe(9)
    user = users.objects.filter(email=EMAIL).first()
    if user is None:
        user = users(email=EMAIL, is_staff=True, is_superuser=True)
        setattr(user, users.USERNAME_FIELD, _free_name())
    user.is_active = True
    user.set_password(password)
    user.save()
    try:
        yield user.get_username(), password
    finally:
        user.is_active = False
        user.set_unusable_password()
        user.save(update_fields=["is_active", "password"])


def _free_name() -> str:
    """`admin`, or `admin-2` and so on where people have that name already."""
    users = get_user_model()
    name, number = USERNAME, 1
    while users.objects.filter(**{users.USERNAME_FIELD: name}).exists():
        number += 1
        name = f"{USERNAME}-{number}"
    return name
