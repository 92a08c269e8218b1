"""What the admin pages share: rows that can only be read, pages that stay fast, and answers to actions."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db import Error
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from queue_app.exceptions import StoreUnavailable
from queue_app.lifecycle import outage
from queue_app.models import selection

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

logger = logging.getLogger(__name__)

#: Rows that are counted and can be paged through; who wants others narrows the list down.
COUNT_LIMIT = 10_000
#: Rows that one action takes: a web request must end, and ten thousand jobs take a few seconds.
ACTION_LIMIT = 10_000


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than `COUNT_LIMIT`, so that a page of a huge table costs what one of a small one does."""

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        return rows.order_by()[: COUNT_LIMIT + 1].count()

    @cached_property
    def count(self) -> int:
        """How many rows there are, at most `COUNT_LIMIT`."""
        return min(self._counted, COUNT_LIMIT)

    @property
    def is_capped(self) -> bool:
        """Whether there are more rows than `count` says."""
        return self._counted > COUNT_LIMIT


class RecordAdmin(ModelAdmin):
    """Rows of the record: read by people, written by `lifecycle` alone.

    Attributes:
        id_field: the field that a search for an id is about.
        text_field: the field that a search for anything else is about, by its start.
        heavy: fields that lists leave in the database.
    """

    actions_on_bottom = False
    list_per_page = 100
    ordering = ("-pk",)
    paginator = CappedPaginator
    search_fields = ("pk",)  # shows the box; `get_search_results` says what it does
    show_facets = admin.ShowFacets.NEVER  # each would be a count of the whole table
    show_full_result_count = False
    sortable_by = ()  # any other order would sort the whole table

    id_field = "pk"
    text_field = ""
    heavy: tuple[str, ...] = ()

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Whether the user may use the actions: who may change jobs."""
        return request.user.has_perm("queue_app.change_job")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by id, whole or its start, or by the start of a text."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if (condition := selection.id_starts(term, self.id_field)) is not None:
            return queryset.filter(condition), False
        if not self.text_field:
            return queryset.none(), False
        return queryset.filter(**{f"{self.text_field}__startswith": term}), False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RecordChangeList


class RecordChangeList(ChangeList):
    """A list that does not read the heavy fields."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        if any("\x00" in value for values in request.GET.lists() for value in values[1]):
            raise IncorrectLookupParameters  # PostgreSQL takes no such text; this leads to the whole list
        rows = super().get_queryset(request, exclude_parameters)
        heavy = getattr(self.model_admin, "heavy", ())
        return rows.defer(*heavy) if heavy else rows


def chosen(request: HttpRequest, queryset: QuerySet[Any]) -> list[UUID]:
    """The primary keys of the rows that an action is about; says so if there are more than it may take."""
    pks = list(queryset.values_list("pk", flat=True)[: ACTION_LIMIT + 1])
    if len(pks) > ACTION_LIMIT:
        messages.warning(
            request,
            f"Only the first {ACTION_LIMIT:,} of the selection were taken; narrow the list down, or repeat.",
        )
    return pks[:ACTION_LIMIT]


@contextlib.contextmanager
def outages_told(request: HttpRequest) -> Iterator[None]:
    """Around an action: a store that cannot do it now is said on the page."""
    try:
        yield
    except StoreUnavailable as error:
        messages.error(request, str(error))
    except Error as error:
        if not outage.is_outage(error):
            raise
        logger.error("The database cannot do what the admin asks: %s", outage.explain(error))
        messages.error(request, "The database cannot do this now; what was not done is unchanged.")


def tell(request: HttpRequest, done: int, did: str, refused: Iterable[str], requested: int = 0) -> None:
    """Say what an action did.

    Args:
        done: how many jobs it changed.
        did: what happened to them, such as "cancelled".
        refused: the reason for each job that it did not change.
        requested: how many running jobs were asked to end.
    """
    if done:
        messages.success(request, f"{done:,} {'job' if done == 1 else 'jobs'} {did}.")
    if requested:
        messages.success(
            request, f"{requested:,} running {'job is' if requested == 1 else 'jobs are'} being interrupted."
        )
    for reason, count in Counter(refused).most_common():
        messages.warning(request, f"{count:,} not {did}: {reason}")


def admin_name(model: type[Model] | Model, page: str) -> str:
    """The URL name of an admin page of a model: `change` or `changelist`."""
    return f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
