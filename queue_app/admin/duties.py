"""The page of the maintenance duties: read-only, beside the list of workers."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.template.response import TemplateResponse

from queue_app.admin.display import link
from queue_app.exceptions import StoreUnavailable
from queue_app.models import Worker
from queue_app.queries import duties


def page(request: HttpRequest, model_admin: Any) -> TemplateResponse:
    """The page with the leader and the status of each duty.

    Args:
        model_admin: the admin of workers, whose view permission this page needs.

    Raises:
        PermissionDenied: the user may not see workers.
    """
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    site: admin.AdminSite = model_admin.admin_site
    context: dict[str, Any] = {**site.each_context(request), "title": "Maintenance duties"}
    try:
        found = duties.now()
        is_worker = found.leader and Worker.objects.filter(pk=found.leader).exists()
        context |= {"report": found, "leader_link": link(Worker, found.leader) if is_worker else found.leader}
    except StoreUnavailable as error:
        context["problem"] = str(error)
    return TemplateResponse(request, "admin/queue_app/worker/duties.html", context)
