"""What the admin pages share: rows that can only be read, pages that stay fast, and answers to actions."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Page, Paginator
from django.db import Error
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse

from queue_app import clock
from queue_app.admin.audit_links import AuditLinksMixin
from queue_app.admin.reasons import ReasonForm, ReasonMixin
from queue_app.admin.rights import RightsMixin
from queue_app.domain import ids
from queue_app.exceptions import StoreUnavailable
from queue_app.models.indexes import INDEXES
from queue_app.queries import search, selection, stores

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin

logger = logging.getLogger(__name__)

#: Most rows that are counted and can be paged through. Filters and searches reach the others.
COUNT_LIMIT = 10_000
#: Most rows that one action takes: ten thousand jobs take a few seconds, and a web request must end.
ACTION_LIMIT = 10_000
#: Most keys that a search for the start of an id in another field finds.
MAX_MATCHES = 200
#: The query parameter with the key below which a search continues.
BEFORE_VAR = "below"


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts up to `COUNT_LIMIT`, so that a page of a huge table costs as little as one of a small table."""

    @cached_property
    def _counted(self) -> int:
        rows: Any = self.object_list
        return rows[: COUNT_LIMIT + 1].count()  # in its order, for which there is an index

    @cached_property
    def count(self) -> int:
        """How many rows there are, at most `COUNT_LIMIT`."""
        return min(self._counted, COUNT_LIMIT)

    @property
    def is_capped(self) -> bool:
        """Whether there are more rows than `count` says."""
        return self._counted > COUNT_LIMIT

    def page(self, number: int | str) -> Page[Any]:
        """A page; of the rows before it only the keys are read."""
        number = self.validate_number(number)
        first = (number - 1) * self.per_page
        rows: Any = self.object_list
        pks = list(rows.values_list("pk", flat=True)[first : min(first + self.per_page, self.count)])
        return Page(rows.filter(pk__in=pks), number, self)


class RecordAdmin(ReasonMixin, AuditLinksMixin, RightsMixin, ModelAdmin):
    """A read-only admin for rows that only `lifecycle` writes.

    Attributes:
        id_field: the field in which an id is searched.
        text_field: the field whose start is compared with any other search text.
        heavy: fields that lists do not read.
    """

    action_form = ReasonForm
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

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if task := getattr(kwargs.get("obj"), "task", ""):
            context["subtitle"] = task  # the id stands below; both are too long for the buttons beside them
        return super().render_change_form(request, context, *args, **kwargs)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by id, whole or its start, or by the start of a text."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if (condition := selection.id_starts_with(term)) is not None and self.id_field == "pk":
            return queryset.filter(condition), False
        if (condition := selection.id_starts_with(term, self.id_field)) is not None:
            return queryset.filter(pk__in=self.matching(request, condition, self.id_field)), False
        if not self.text_field:
            return queryset.none(), False
        return queryset.filter(**{f"{self.text_field}__startswith": term}), False

    def matching(self, request: HttpRequest, condition: Q, field: str) -> list[Any]:
        """Keys of the newest rows that meet a condition on the id `field`; warns the user if there are more."""
        rows = self.model._default_manager.filter(condition).order_by(f"-{field}")
        pks = list(rows.values_list("pk", flat=True)[: MAX_MATCHES + 1])
        if len(pks) > MAX_MATCHES:
            text = f"Only the newest {MAX_MATCHES} matches are listed; give more digits of the id."
            messages.warning(request, text)
        return pks[:MAX_MATCHES]

    def row_time(self, pk: Any) -> datetime:
        """The time at which the row with this key was created."""
        return clock.from_seconds(ids.made_at(pk))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RecordChangeList


class RecordChangeList(ChangeList):
    """A list that reads neither the heavy fields nor the history: see `queries.search`.

    Attributes:
        searched_to: the key down to which the history was searched; None: all of it.
        before: the key under which the search began; None: with the newest row.
    """

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        if any("\x00" in value for values in request.GET.lists() for value in values[1]):
            raise IncorrectLookupParameters  # PostgreSQL takes no such text; this leads to the whole list
        rows = super().get_queryset(request, exclude_parameters)
        self.before = self.searched_to = None
        if self.model in INDEXES:
            self.before = self._before(request)
            found = search.newest(rows, self.list_per_page, self.before)
            rows, self.searched_to = found.rows, found.searched_to
        heavy = getattr(self.model_admin, "heavy", ())
        return rows.defer(*heavy) if heavy else rows

    def get_filters_params(self, params: Any = None) -> Any:
        found = super().get_filters_params(params)
        found.pop(BEFORE_VAR, None)
        return found

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return list(self.model_admin.get_ordering(request))  # the URL cannot change it: see `sortable_by`

    def _before(self, request: HttpRequest) -> Any:
        try:
            return self.model._meta.pk.to_python(request.GET.get(BEFORE_VAR))
        except ValidationError:
            raise IncorrectLookupParameters from None

    # For the template

    @property
    def searched_since(self) -> datetime | None:
        """Back to when the rows were searched; None: all of them."""
        own: Any = self.model_admin
        return None if self.searched_to is None else own.row_time(self.searched_to)

    @property
    def further_back(self) -> str:
        """The address that goes on from there."""
        return self.get_query_string({BEFORE_VAR: self.searched_to})

    @property
    def from_the_newest(self) -> str:
        """The address that begins with the newest row again."""
        return self.get_query_string(remove=[BEFORE_VAR])


def selected_pks(request: HttpRequest, queryset: QuerySet[Any]) -> list[UUID]:
    """The primary keys of the rows selected for an action; warns the user if there are more than `ACTION_LIMIT`."""
    pks = list(queryset.values_list("pk", flat=True)[: ACTION_LIMIT + 1])
    if len(pks) > ACTION_LIMIT:
        messages.warning(
            request,
            f"Only the first {ACTION_LIMIT:,} of the selection were taken; narrow the list down, or repeat.",
        )
    return pks[:ACTION_LIMIT]


@contextlib.contextmanager
def show_outages(request: HttpRequest) -> Iterator[None]:
    """Show an outage of a store as a message on the page, instead of an error page."""
    try:
        yield
    except StoreUnavailable as error:
        messages.error(request, str(error))
    except Error as error:
        if not stores.is_outage(error):
            raise
        logger.error("The database cannot do what the admin asks: %s", stores.explain(error))
        messages.error(request, "The database cannot do this now; what was not done is unchanged.")


def show_result(
    request: HttpRequest, done: int, did: str, refused: Iterable[str], requested: int = 0
) -> None:
    """Show the result of an action as messages.

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
