"""An SMTP server that keeps the mail that it gets. Some mailboxes are full until they are emptied."""

from __future__ import annotations

import asyncio
import email
import email.policy
import threading
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

#: Mail to this domain is turned away while its mailboxes are full.
FULL_DOMAIN = "full.example"


@dataclass(frozen=True, slots=True)
class Letter:
    """An e-mail that arrived."""

    to: str
    subject: str
    body: str
    job_id: str


class MailServer:
    """Listens on a free port of this machine, in a thread of its own. Use it with `with`.

    Attributes:
        port: where it listens.
        letters: what arrived, in this order.
        refused: how many were turned away because the mailbox was full.
    """

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.letters: list[Letter] = []
        self.refused = 0
        self._full = True
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            self._loop.create_server(
                lambda: SMTP(self, hostname="localhost", loop=self._loop, enable_SMTPUTF8=True), self.host, 0
            )
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="mail server", daemon=True)

    @property
    def url(self) -> str:
        """For EMAIL_URL."""
        return f"smtp://{self.host}:{self.port}"

    def empty_mailboxes(self) -> None:
        """From now on every mail is taken."""
        self._full = False

    def __enter__(self) -> MailServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        async def end() -> None:
            self._server.close()
            for task in asyncio.all_tasks():  # connections under way
                if task is not asyncio.current_task():
                    task.cancel()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    # Called by aiosmtpd, which finds them by their names.

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[Any]
    ) -> str:
        """A recipient is named."""
        if self._full and address.endswith(f"@{FULL_DOMAIN}"):
            self.refused += 1
            return f"452 4.2.2 <{address}>: the mailbox is full"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """A mail has come."""
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        message = email.message_from_bytes(content, EmailMessage, policy=email.policy.default)
        for address in envelope.rcpt_tos:
            self.letters.append(
                Letter(
                    address,
                    message["Subject"] or "",
                    message.get_content().replace("\r\n", "\n").rstrip("\n"),
                    message["X-Job-ID"] or "",
                )
            )
        return "250 OK"
