"""Fields that convert nothing: a value is taken as it was sent, or refused; and shown as it is. By its class each is a
field of DRF, so that a schema can be made of the declaration alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rest_framework import serializers
from rest_framework.fields import empty

from queue_app.domain.names import priority_of
from queue_app.exceptions import InvalidOption
from queue_app.operations.audit import REASON


class Strict(serializers.Field[Any, Any, Any, Any]):
    """Mixed into a field of DRF, whose own conversion and validators are left out.

    A rule of the domain decides, in its own words. Bounds that are declared, such as `max_length`, say the same to
    schemas and are not checked here.

    Args:
        rule: takes the value as it was sent, and returns what it stands for; raises InvalidOption or ValidationError.
        words: what the field takes, for the answer to other JSON; with a rule and without words, the rule answers that.
    """

    #: Python types of the JSON that is taken; bool is no int here.
    kinds: tuple[type, ...] = (str,)
    words = "text"

    def __init__(
        self, *, rule: Callable[[Any], Any] | None = None, words: str | None = None, **options: Any
    ) -> None:
        self.rule, self.asks_kind = rule, rule is None or words is not None
        if self.asks_kind:
            said = f"Use {words or self.words}.".replace("{", "{{").replace("}", "}}")  # DRF formats it
            options["error_messages"] = {"invalid": said, "null": said}
        super().__init__(**options)

    def run_validation(self, data: Any = empty) -> Any:
        is_empty, value = self.validate_empty_values(data)
        return value if is_empty else self.to_internal_value(value)

    def to_internal_value(self, data: Any) -> Any:
        if self.asks_kind and (
            not isinstance(data, self.kinds) or (isinstance(data, bool) and bool not in self.kinds)
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

    kinds: tuple[type, ...] = (int,)
    words = "a whole number"


class StrictFloatField(Strict, serializers.FloatField):
    """A number: no text."""

    kinds = (int, float)
    words = "a number"


class StrictBooleanField(Strict, serializers.BooleanField):
    """True or false: neither text nor a number."""

    kinds = (bool,)
    words = "true or false"


class StrictListField(Strict, serializers.ListField):
    """A list of anything."""

    kinds = (list,)
    words = "a list, such as [1, 2]"


class StrictDictField(Strict, serializers.DictField):
    """An object with anything in it."""

    kinds = (dict,)
    words = 'an object, such as {"x": 1}'


class PriorityField(StrictIntegerField):
    """A priority as a number, or by its name."""

    kinds = (int, str)

    def __init__(self, **options: Any) -> None:
        said = "-100 to 100, or critical, high, normal or low; higher runs first. Null: the task's own."
        own: dict[str, Any] = {"rule": priority_of, "min_value": -100, "max_value": 100, "help_text": said}
        super().__init__(**own | {"required": False, "allow_null": True} | options)


class ReasonField(StrictCharField):
    """Why something is done, for the audit. Left out or null, it is empty."""

    def __init__(self, **options: Any) -> None:
        said = f"Why, for the audit: text of at most {REASON} characters."
        own: dict[str, Any] = {"rule": _reason, "max_length": REASON, "help_text": said}
        super().__init__(**own | {"default": "", "allow_null": True} | options)

    def run_validation(self, data: Any = empty) -> str:
        return super().run_validation(data) or ""


def _reason(value: Any) -> str:
    if not isinstance(value, str) or len(value) > REASON or "\x00" in value:
        raise InvalidOption(f"Use text of at most {REASON} characters.")
    return value
