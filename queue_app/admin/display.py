"""How values look on the admin pages."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from queue_app.admin.base import admin_name

#: Characters of a JSON value or text that a page shows; the API has the whole.
MAX_CHARACTERS = 20_000
EMPTY = "–"


def link(model: type[Model], pk: Any, text: Any = None) -> SafeString | str:
    """A link to a row's page; the row need not exist any more."""
    if pk is None:
        return EMPTY
    try:
        url = reverse(admin_name(model, "change"), args=[pk])
    except NoReverseMatch:  # the project has taken the model out of its admin
        return str(text or pk)
    return format_html('<a href="{}">{}</a>', url, text or pk)


def link_to_list(model: type[Model], query: str, text: str) -> SafeString | str:
    """A link to a model's list, filtered."""
    try:
        return format_html('<a href="{}?{}">{}</a>', reverse(admin_name(model, "changelist")), query, text)
    except NoReverseMatch:
        return text


def json_block(text: str | None) -> SafeString | str:
    """JSON text, indented unless that makes it long; the beginning of it where it is long anyway."""
    if text is None:
        return EMPTY
    if len(text) <= MAX_CHARACTERS:
        with contextlib.suppress(RecursionError):  # nested more deeply than Python indents
            indented = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
            text = indented if len(indented) <= MAX_CHARACTERS else text
    return text_block(text)


def text_block(text: str) -> SafeString | str:
    """Text with its line breaks; the beginning of it where it is long."""
    if not text:
        return EMPTY
    rest = len(text) - MAX_CHARACTERS
    note = f"\n… and {rest:,} characters more" if rest > 0 else ""
    return format_html("<pre>{}{}</pre>", text[:MAX_CHARACTERS], note)


def folded(summary: str, text: str) -> SafeString | str:
    """Text behind its first line, which opens it."""
    if not text:
        return summary or EMPTY
    return format_html("<details><summary>{}</summary>{}</details>", summary, text_block(text))


def progress_bar(text: str | None) -> SafeString | str:
    """A bar from the JSON text `[done, total, note]`."""
    if not text:
        return EMPTY
    done, total, note = json.loads(text)
    if not total:
        return format_html("{} {}", _plain(done), note)
    return format_html(
        '<progress max="{}" value="{}"></progress> {} of {} {}',
        total,
        min(done, total),
        _plain(done),
        _plain(total),
        note,
    )


def _plain(number: float) -> str:
    return f"{number:,.6g}" if isinstance(number, float) else f"{number:,}"


def seconds_between(start: datetime | None, end: datetime | None) -> str:
    """How long from `start` to `end`."""
    if start is None or end is None:
        return EMPTY
    return f"{max(0.0, (end - start).total_seconds()):,.3f} s"


@admin.display(description="Error")
def error_line(row: Any) -> str:
    """The class and message of a row's error, short enough for a list."""
    name = row.error_class.rpartition(".")[2]
    text = f"{name}: {row.error}" if name and row.error else name or row.error
    return text if len(text) <= 120 else text[:119] + "…"
