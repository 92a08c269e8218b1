"""The fencing token of the latest leadership, in the record: unlike a counter in Redis it can never fall."""

from __future__ import annotations

from django.db import models


class Leadership(models.Model):
    """One row for each kind of leader."""

    name = models.CharField(primary_key=True, max_length=32)
    token = models.BigIntegerField(default=0, help_text="Of the latest leadership; each takes a higher one.")

    class Meta:
        verbose_name_plural = "leadership"

    def __str__(self) -> str:
        return f"{self.name} {self.token}"
