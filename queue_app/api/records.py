"""Base views of rows: lists in pages, newest first, with strict filters; and the detail of one row."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model
from rest_framework import mixins, viewsets
from rest_framework.exceptions import NotFound
from rest_framework.serializers import BaseSerializer

from queue_app.api.base import NewestFirstPagination, StaffView, uuid_or_404
from queue_app.api.filters import StrictFilterBackend
from queue_app.models.sql import write_alias

M = TypeVar("M", bound=Model)


class RecordList(StaffView, viewsets.GenericViewSet[M]):
    """A list of rows, newest first. A subclass sets `filterset_class`."""

    pagination_class = NewestFirstPagination
    filter_backends = [StrictFilterBackend]
    lookup_value_regex = "[^/]+"


class RecordView(RecordList[M], mixins.RetrieveModelMixin, mixins.ListModelMixin):
    """Rows to look at, in a list and one by one.

    Attributes:
        detail_serializer_class: the serializer of one row.
    """

    detail_serializer_class: type[BaseSerializer[Any]]

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return self.detail_serializer_class if self.detail else super().get_serializer_class()

    def get_object(self) -> M:
        """The row of this address, as it is now: from the database that is written to.

        Raises:
            NotFound: there is none.
        """
        model: Any = self.get_queryset().model
        word, pk = model._meta.verbose_name, self.kwargs["pk"]
        found: M | None = model.objects.using(write_alias()).filter(pk=uuid_or_404(pk, word)).first()
        if found is None:
            raise NotFound(f"There is no {word} {pk!r}.")
        return found
