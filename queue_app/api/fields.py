"""Fields that convert nothing: a value is accepted as it was sent, or refused. Each is a subclass of a DRF field, so
that a schema can be generated from the declaration alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rest_framework import serializers
from rest_framework.fields import empty

from queue_app.domain.names import priority_of
from queue_app.exceptions import InvalidOption
from queue_app.operations.audit import MAX_REASON_LENGTH


class Strict(serializers.Field[Any, Any, Any, Any]):
    """Mixed into a field of DRF, whose own conversion and validators are left out.

    A rule of the domain decides, in its own words. Bounds that are declared, such as `max_length`, say the same to
    schemas and are not checked here.

    Args:
        rule: takes the value as it was sent, and returns what it stands for; raises InvalidOption or ValidationError.
        expected: what the field takes, for the error on JSON of another type. With a rule and without `expected`, the
            rule checks the type too.
    """

    #: Python types of the JSON that is taken; bool is no int here.
    json_types: tuple[type, ...] = (str,)
    expected = "text"

    def __init__(
        self, *, rule: Callable[[Any], Any] | None = None, expected: str | None = None, **options: Any
    ) -> None:
        self.rule, self.checks_type = rule, rule is None or expected is not None
        if self.checks_type:
            message = f"Use {expected or self.expected}.".replace("{", "{{").replace(
                "}", "}}"
            )  # DRF formats it
            options["error_messages"] = {"invalid": message, "null": message}
        super().__init__(**options)

    def run_validation(self, data: Any = empty) -> Any:
        is_empty, value = self.validate_empty_values(data)
        return value if is_empty else self.to_internal_value(value)

    def to_internal_value(self, data: Any) -> Any:
        if self.checks_type and (
            not isinstance(data, self.json_types) or (isinstance(data, bool) and bool not in self.json_types)
        ):
            self.fail("invalid")
        try:
            return data if self.rule is None else self.rule(data)
        except InvalidOption as error:
            raise serializers.ValidationError(str(error)) from None

    def to_representation(self, value: Any) -> Any:
        return value


class StrictCharField(Strict, serializers.CharField):
    """Text: no number is made text, nothing is trimmed."""


class StrictChoiceField(Strict, serializers.ChoiceField):
    """Text; which of its choices, the rule says."""


class StrictDateTimeField(Strict, serializers.DateTimeField):
    """A time as text, as its rule has it."""


class StrictIntegerField(Strict, serializers.IntegerField):
    """A number without a fraction: neither text nor 1.0."""

    json_types: tuple[type, ...] = (int,)
    expected = "a whole number"


class StrictFloatField(Strict, serializers.FloatField):
    """A number: no text."""

    json_types = (int, float)
    expected = "a number"


class StrictBooleanField(Strict, serializers.BooleanField):
    """True or false: neither text nor a number."""

    json_types = (bool,)
    expected = "true or false"


class StrictListField(Strict, serializers.ListField):
    """A list of anything."""

    json_types = (list,)
    expected = "a list, such as [1, 2]"


class StrictDictField(Strict, serializers.DictField):
    """An object with anything in it."""

    json_types = (dict,)
    expected = 'an object, such as {"x": 1}'


class PriorityField(StrictIntegerField):
    """A priority as a number, or by its name."""

    json_types = (int, str)

    def __init__(self, **options: Any) -> None:
        message = "-100 to 100, or critical, high, normal or low; higher runs first. Null: the task's own."
        own: dict[str, Any] = {"rule": priority_of, "min_value": -100, "max_value": 100, "help_text": message}
        super().__init__(**own | {"required": False, "allow_null": True} | options)


class ReasonField(StrictCharField):
    """Why something is done, for the audit. Left out or null, it is empty."""

    def __init__(self, **options: Any) -> None:
        message = f"Why, for the audit: text of at most {MAX_REASON_LENGTH} characters."
        own: dict[str, Any] = {"rule": _reason, "max_length": MAX_REASON_LENGTH, "help_text": message}
        super().__init__(**own | {"default": "", "allow_null": True} | options)

    def run_validation(self, data: Any = empty) -> str:
        return super().run_validation(data) or ""


def _reason(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_REASON_LENGTH or "\x00" in value:
        raise InvalidOption(f"Use text of at most {MAX_REASON_LENGTH} characters.")
    return value
