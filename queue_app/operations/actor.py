"""The actor of an operation: a user (with the id of the request), a command, or code of the project."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from queue_app.domain.rights import Right
from queue_app.exceptions import NotPermitted
from queue_app.models.audit_event import ActorKind

#: The header with the id of a request, as proxies set it; and the most characters of it that are kept.
REQUEST_ID_HEADER, MAX_REQUEST_ID_LENGTH = "X-Request-ID", 128


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor of an operation.

    Attributes:
        kind: user, command or system.
        id: the primary key of a user, as text; else empty.
        name: shown in the audit.
        request_id: the id of the HTTP request; empty if it had none.
        user: the user whose rights are checked; None: everything is allowed.
    """

    kind: ActorKind
    name: str
    id: str = ""
    request_id: str = ""
    user: Any = field(default=None, repr=False)

    @classmethod
    def of_request(cls, request: Any) -> Actor:
        """The user of a request, of Django or of REST framework."""
        return cls.of_user(request.user, str(request.headers.get(REQUEST_ID_HEADER, "")))

    @classmethod
    def of_user(cls, user: Any, request_id: str = "") -> Actor:
        """A user, who may do what that user's permissions say.

        Args:
            request_id: left out where it is not printable, or longer than MAX_REQUEST_ID_LENGTH characters.
        """
        if not request_id.isprintable() or len(request_id) > MAX_REQUEST_ID_LENGTH:
            request_id = ""
        return cls(ActorKind.USER, str(user.get_username()), str(user.pk or ""), request_id, user)

    @classmethod
    def command(cls, name: str) -> Actor:
        """A person at the command line, who may do everything.

        Args:
            name: says who and which command.
        """
        return cls(ActorKind.COMMAND, name)

    @classmethod
    def system(cls, name: str) -> Actor:
        """Code of the project, which may do everything.

        Args:
            name: says which code.
        """
        return cls(ActorKind.SYSTEM, name)

    @property
    def meta(self) -> dict[str, Any]:
        """The meta of a job that this actor submits: the actor, and the id of the request."""
        meta: dict[str, Any] = {"actor": {"kind": self.kind.value, "id": self.id, "name": self.name}}
        return meta | {"request_id": self.request_id} if self.request_id else meta

    @property
    def signal_user(self) -> Any:
        """The `user` argument of the signal `operated`: the user, or the name."""
        return self.name if self.user is None else self.user

    def may(self, right: Right) -> bool:
        """Whether the actor has a right."""
        return self.user is None or bool(self.user.has_perm(right.value))

    def require(self, right: Right) -> None:
        """Require a right.

        Raises:
            NotPermitted: names the right that is missing.
        """
        if not self.may(right):
            raise NotPermitted(right.value)
