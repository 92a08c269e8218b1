"""What jobs of tests write into the database, so that effects can be counted."""

from __future__ import annotations

from django.db import models


class Effect(models.Model):
    """One effect. Nothing is unique: a job whose effects are there twice must show."""

    job = models.CharField(max_length=64)
    label = models.CharField(max_length=64, default="")

    def __str__(self) -> str:
        return f"{self.label} of {self.job}"
