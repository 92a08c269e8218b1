"""Fetching pages that somebody named: limits, and nothing from inside this network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from jobqueue_project import fetch as fetching
from jobqueue_project.demo.webserver import WebServer
from jobqueue_project.fetch import ForbiddenAddress, UnexpectedAnswer, fetch
from tests.support.webpages import answering


@pytest.fixture
def web() -> Iterator[WebServer]:
    """The demo's web server."""
    with WebServer() as server:
        yield server


PRIVATE = [
    "127.0.0.1",
    "127.8.9.10",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "fe80::1%lo",
    "fc00::1",
    "fec0::1",
    "ff02::1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(ForbiddenAddress, match="SCRAPE_ALLOWED_HOSTS"):
        fetching.check_public("host.example", address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_not(address: str) -> None:
    fetching.check_public("host.example", address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/pages/1",
        "http://localhost:{port}/pages/1",
        "http://[::1]:{port}/pages/1",
        "http://[::ffff:127.0.0.1]:{port}/pages/1",
        "http://2130706433:{port}/pages/1",
        "http://0x7f.1:{port}/pages/1",
        "http://0:{port}/pages/1",
        "https://127.0.0.1:{port}/pages/1",
    ],
)
def test_this_machine_is_not_fetched_from_whatever_it_is_called(url: str, web: WebServer) -> None:
    with pytest.raises(ForbiddenAddress):
        fetch(url.format(port=web.port), [])
    assert not web.answers


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/html,x", "", "//x", "http://["]
)
def test_only_the_web_is_fetched_from(url: str) -> None:
    with pytest.raises(ForbiddenAddress):
        fetch(url, ["127.0.0.1"])


@pytest.mark.parametrize("url", ["http://a b/", "http://127.0.0.1/a b", "http://127.0.0.1:port/"])
def test_nonsense_is_refused(url: str) -> None:
    with pytest.raises(ForbiddenAddress, match="is not a URL"):
        fetch(url, ["127.0.0.1"])


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/", "http://localhost:{port}/", "file:///etc/passwd", "ftp://1.1.1.1/"]
)
def test_a_redirect_leads_nowhere_that_may_not_be_fetched(target: str) -> None:
    with (
        answering(302, Location=target.format(port=1)) as url,
        pytest.raises((ForbiddenAddress, UnexpectedAnswer)),
    ):
        fetch(url, [url.split("/")[2]])


def test_redirects_in_a_circle_end() -> None:
    with answering(302, Location="/") as url, pytest.raises(UnexpectedAnswer, match="302"):
        fetch(url, ["127.0.0.1"])


def test_the_address_that_was_checked_is_the_one_that_is_used(web: WebServer, monkeypatch: Any) -> None:
    """A name that resolves to a public address when it is checked and to this machine a moment later."""
    asked = []

    def resolve(host: str, port: int, **options: Any) -> list[Any]:
        asked.append(host)
        address = "1.1.1.1" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    connected: list[Any] = []

    class Socket:
        def __init__(self, *kind: int) -> None: ...

        def settimeout(self, seconds: float) -> None: ...

        def close(self) -> None: ...

        def connect(self, address: Any) -> None:
            connected.append(address)
            raise OSError("no way out of here")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no way out"):
        patch.setattr(socket, "getaddrinfo", resolve)
        patch.setattr(socket, "socket", Socket)
        fetch(f"http://rebind.example:{web.port}/pages/1")
    assert (asked, connected) == (["rebind.example"], [("1.1.1.1", web.port)])


def test_all_addresses_of_a_name_must_be_public(monkeypatch: Any) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("1.1.1.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    with pytest.raises(ForbiddenAddress, match=r"10\.0\.0\.1"):
        fetch("http://two.example/")


def test_an_allowed_host_is_allowed_by_name_or_with_its_port(web: WebServer) -> None:
    assert fetch(web.url("/pages/1"), ["127.0.0.1"]).url == web.url("/pages/1")
    assert fetch(web.url("/pages/1"), [web.address]).encoding == "utf-8"
    with pytest.raises(ForbiddenAddress):
        fetch(web.url("/pages/1"), ["127.0.0.1:1", "localhost"])


def test_a_proxy_of_the_environment_is_not_used(web: WebServer, monkeypatch: Any) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch(web.url("/pages/1"), [web.address]).body.startswith(b"<!doctype html>")


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"x", "image/png", "is image/png, not a page"),
        (b"x" * (fetching.SIZE_LIMIT + 1), "text/html", "is larger than 2,000,000 bytes"),
    ],
)
def test_what_is_no_page_or_too_large_is_refused(body: bytes, kind: str, reason: str) -> None:
    with answering(200, body, Content_Type=kind) as url, pytest.raises(UnexpectedAnswer, match=reason):
        fetch(url, ["127.0.0.1"])
