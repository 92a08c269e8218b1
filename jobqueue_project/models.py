"""What the demo's import fills."""

from __future__ import annotations

from django.db import models


class Product(models.Model):
    """A row of an imported catalogue."""

    sku = models.CharField(max_length=32)
    name = models.CharField(max_length=200)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    stock = models.IntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["sku"], name="jobqueue_project_product_sku")]

    def __str__(self) -> str:
        return f"{self.sku} {self.name}"
