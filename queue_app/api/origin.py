"""Guards against cross-site requests: a change must be JSON, and must not come from a page of another site.

A browser sends cached basic credentials (and cookies) with the forms of any page. A form cannot send JSON, and a script
that does announces itself: by `Origin` and `Sec-Fetch-Site`, which no page can forge. Machines send neither of the two.
"""

from __future__ import annotations

from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware
from rest_framework.exceptions import PermissionDenied, UnsupportedMediaType

#: Values of Sec-Fetch-Site: a page of this very site; the person, by typing an address.
_SAME_SITE = ("same-origin", "none")


def refuse_cross_site(request: HttpRequest) -> None:
    """Refuse a request of another site's page, unless CSRF_TRUSTED_ORIGINS names that site.

    Raises:
        PermissionDenied: `Origin` or `Sec-Fetch-Site` says that it is one.
    """
    origin, site = request.META.get("HTTP_ORIGIN"), request.META.get("HTTP_SEC_FETCH_SITE")
    if origin is not None and not _OriginCheck().is_ours_or_trusted(request):
        raise PermissionDenied(
            f"This request was sent by a page of {origin[:200]!r}. If that is this site, behind a proxy, set"
            " SECURE_PROXY_SSL_HEADER; if you trust that site, add it to CSRF_TRUSTED_ORIGINS."
        )
    if site is None or site in _SAME_SITE:
        return
    if origin is None or origin == f"{request.scheme}://{request.get_host()}":
        raise PermissionDenied(
            "This request was sent by a page of another site (Sec-Fetch-Site). If you trust that site, add it to"
            " CSRF_TRUSTED_ORIGINS."
        )


def require_json(request: HttpRequest) -> None:
    """Refuse a request that is not said to be JSON, also one without a body.

    Raises:
        UnsupportedMediaType: says which header to send.
    """
    if request.content_type != "application/json":
        given = (request.content_type or "")[:64]
        raise UnsupportedMediaType(
            given, f"Send the header Content-Type: application/json, also without a body, not {given!r}."
        )


class _OriginCheck(CsrfViewMiddleware):
    """Django's own comparison of `Origin` with the host and CSRF_TRUSTED_ORIGINS."""

    def __init__(self) -> None:
        super().__init__(lambda request: None)  # type: ignore[arg-type]

    def is_ours_or_trusted(self, request: HttpRequest) -> bool:
        return bool(self._origin_verified(request))  # type: ignore[attr-defined]
