"""A web server with pages to scrape. Some fail until the server is repaired."""

from __future__ import annotations

import html
import threading
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: The metadata service of several clouds: what attackers have scrapers fetch.
INSIDE = "http://169.254.169.254/latest/meta-data/"
SUBJECTS = ("Queues", "Leases", "Retries", "Backoff", "Dead letters", "Workers", "Transactions", "Priorities")


def headline(number: int) -> str:
    """The title of a page, with characters that HTML must escape."""
    return f"{SUBJECTS[number % len(SUBJECTS)]} & <more>, part {number} – “café”"


def lead(number: int) -> str:
    """The first paragraph of a page."""
    return f"What {SUBJECTS[number % len(SUBJECTS)].lower()} are for, in {number} words."


class WebServer:
    """Listens on a free port of this machine, each request in a thread of its own. Use it with `with`.

    `/pages/<n>` is a page, `/moved/<n>` leads to it, `/down/<n>` is out of order until `repair`, `/inside` leads to
    an address where clouds keep a machine's secrets, and anything else is not found.

    Attributes:
        port: where it listens.
        answers: how often each path was asked for, and answered with which status.
    """

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self._down = True
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((self.host, 0), self._handler())
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="web server", daemon=True
        )

    @property
    def address(self) -> str:
        """Its host and port, for SCRAPE_ALLOWED_HOSTS."""
        return f"{self.host}:{self.port}"

    def url(self, path: str) -> str:
        """The URL of a path."""
        return f"http://{self.address}{path}"

    def repair(self) -> None:
        """From now on every page is there."""
        self._down = False

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _answer(self, path: str) -> tuple[HTTPStatus, dict[str, str], str]:
        """Status, headers and body for a path."""
        kind, _, number = path.strip("/").partition("/")
        if kind == "inside":
            return HTTPStatus.FOUND, {"Location": INSIDE}, ""
        if not number.isdecimal():
            return HTTPStatus.NOT_FOUND, {}, _page("Not found", "")
        if kind == "moved":
            return HTTPStatus.FOUND, {"Location": f"/pages/{number}"}, ""
        if kind == "down" and self._down:
            return HTTPStatus.SERVICE_UNAVAILABLE, {}, _page("Out of order", "")
        if kind in ("pages", "down"):
            return HTTPStatus.OK, {}, _page(headline(int(number)), lead(int(number)))
        return HTTPStatus.NOT_FOUND, {}, _page("Not found", "")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, text = server._answer(self.path)
                with server._lock:
                    server.answers[self.path, int(status)] += 1
                body = text.encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass  # `answers` counts them

        return Handler


def _page(title: str, text: str) -> str:
    return (
        f"<!doctype html><html lang=en><head><title>{html.escape(title)}</title></head><body><article>"
        f"<h1 class=headline>{html.escape(title)}</h1><p class=lead>{html.escape(text)}</p>"
        "<p>Served by the demo’s own web server.</p></article></body></html>"
    )
