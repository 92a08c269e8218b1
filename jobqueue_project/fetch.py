"""Fetch a page whose address a user gave: over HTTP, with limits, and never from inside this network.

Addresses are checked when the connection is made, and the connection goes to the address that was checked: so the
guard holds for redirects, and for names that resolve to something else a moment later (DNS rebinding).
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass
from email.message import Message
from functools import cache
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 10.0  # seconds without an answer
SIZE_LIMIT = 2_000_000  # bytes of a page
REDIRECT_LIMIT = 5
USER_AGENT = "jobqueue-demo (+https://docs.djangoproject.com/)"

#: Address ranges that carry an IPv4 address inside and so lead around the check of the outer one.
_TUNNELS = [ipaddress.ip_network(text) for text in ("64:ff9b::/96", "2002::/16", "2001::/32", "::/96")]


class ForbiddenAddress(Exception):
    """The URL leads to an address that is not public, or is none that may be fetched."""


class UnexpectedAnswer(Exception):
    """The server's answer is not a page.

    Attributes:
        status: the HTTP status; 0 where there was none.
        retry_after: seconds after which the server wants to be asked again; None where it says nothing.
    """

    def __init__(self, message: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Page:
    """What was fetched.

    Attributes:
        url: where it was found in the end, after redirects.
        body: at most SIZE_LIMIT bytes.
        encoding: as the server says; None where it does not.
    """

    url: str
    body: bytes
    encoding: str | None


def fetch(url: str, allowed_hosts: Collection[str] = ()) -> Page:
    """Fetch an HTML page.

    Args:
        url: http:// or https://.
        allowed_hosts: `name` or `name:port` of hosts that may be fetched from although their addresses are not
            public.

    Raises:
        ForbiddenAddress: not http(s), or an address that is not public, here or behind a redirect.
        UnexpectedAnswer: a status other than 200, too large, or no HTML.
        OSError: the server cannot be reached (URLError, timeouts).
    """
    _check_scheme(url)
    request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT, "Accept": "text/html"})
    try:
        with _opener(allowed_hosts).open(request, timeout=TIMEOUT) as answer:
            return _page(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise UnexpectedAnswer(
                f"{error.url} answered {error.code} {error.reason}.", error.code, _retry_after(error.headers)
            ) from None
    except (http.client.InvalidURL, ValueError) as error:
        raise ForbiddenAddress(f"{url!r} is not a URL: {error}.") from None
    except http.client.HTTPException as error:
        raise UnexpectedAnswer(f"{url} did not answer in HTTP ({error!r}).", 0) from None


def _check_scheme(url: str) -> None:
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise ForbiddenAddress(f"{url!r} is not a URL: {error}.") from None
    if scheme not in ("http", "https"):
        raise ForbiddenAddress(f"{url!r} is not a URL of the web: use http:// or https://.")


def _page(answer: Any) -> Page:
    kind = answer.headers.get_content_type()
    if kind not in ("text/html", "application/xhtml+xml"):
        raise UnexpectedAnswer(f"{answer.url} is {kind}, not a page.", answer.status)
    body = answer.read(SIZE_LIMIT + 1)
    if len(body) > SIZE_LIMIT:
        raise UnexpectedAnswer(f"{answer.url} is larger than {SIZE_LIMIT:,} bytes.", answer.status)
    return Page(answer.url, body, answer.headers.get_content_charset())


def _retry_after(headers: Message) -> float | None:
    value = headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdecimal() else None


def _opener(allowed_hosts: Collection[str]) -> urllib.request.OpenerDirector:
    """An opener of http(s) alone: no file: or ftp:, and no proxy, which would connect in our place."""

    class Http(_Guarded, http.client.HTTPConnection):
        allowed = allowed_hosts

    class Https(_Guarded, http.client.HTTPSConnection):
        allowed = allowed_hosts

    class HttpHandler(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(Http, request)

    class HttpsHandler(urllib.request.AbstractHTTPHandler):
        # Not urllib's: from Python 3.12 on it reads all certificates of the system each time that it is made.
        https_request = urllib.request.AbstractHTTPHandler.do_request_

        def https_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(Https, request, context=_tls())

    class Redirects(urllib.request.HTTPRedirectHandler):
        max_redirections = REDIRECT_LIMIT

        def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
            _check_scheme(newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    opener = urllib.request.OpenerDirector()
    for handler in (
        HttpHandler(),
        HttpsHandler(),
        Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class _Guarded(http.client.HTTPConnection):
    """A connection that goes to public addresses only."""

    allowed: Collection[str] = ()

    def connect(self) -> None:
        self.sock = _connection(self.host, self.port, self.timeout, self.allowed)
        if isinstance(self, http.client.HTTPSConnection):
            self.sock = _tls().wrap_socket(self.sock, server_hostname=self.host)


def _connection(host: str, port: int, timeout: float | None, allowed: Collection[str]) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if host not in allowed and f"{host}:{port}" not in allowed:
        for *_, address in found:
            check_public(host, str(address[0]))
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout)
            sock.connect(address)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise failure or OSError(f"{host} has no address.")


def check_public(host: str, address: str) -> None:
    """Refuse an address inside this network, this machine, or of no machine at all.

    Raises:
        ForbiddenAddress: with what to do if it is meant.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped or ip
    tunnel = ip.version == 6 and any(ip in network for network in _TUNNELS)
    if not ip.is_global or ip.is_multicast or ip.is_reserved or getattr(ip, "is_site_local", False) or tunnel:
        raise ForbiddenAddress(
            f"{host} is at {address}, which is not a public address; if it is meant to be fetched from, name it in"
            " SCRAPE_ALLOWED_HOSTS."
        )
