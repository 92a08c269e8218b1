"""The app keeps the label `tests`, so that its tables are called after it."""

from __future__ import annotations

from django.apps import AppConfig


class TestsConfig(AppConfig):
    name = "tests.app"
    label = "tests"
