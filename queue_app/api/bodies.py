"""Base classes of request serializers, and of responses that are not rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers
from rest_framework.fields import empty

from queue_app.api.fields import ReasonField
from queue_app.api.parsers import refuse_unknown


class StrictSerializer(serializers.Serializer[Any]):
    """A body, or the parameters of a query. Unknown names are errors."""

    def run_validation(self, data: Any = empty) -> Any:
        if isinstance(data, Mapping):
            refuse_unknown(data, tuple(self.fields))
        return super().run_validation(data)


class ReasonSerializer(StrictSerializer):
    """The body of a verb about one row."""

    reason = ReasonField()


class ReadOnlySerializer(serializers.Serializer[Any]):
    """A response: all fields are read-only."""

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        for field in fields.values():
            field.read_only = True
        return fields
