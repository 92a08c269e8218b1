"""Functions of the database that Django does not have."""

from __future__ import annotations

from typing import Any

from django.db.models import FloatField, Func


class Epoch(Func):
    """Seconds since 1970 of a time, so that columns with seconds can be added to it."""

    output_field = FloatField()

    def as_postgresql(self, compiler: Any, connection: Any, **more: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="EXTRACT(EPOCH FROM %(expressions)s)::float8", **more
        )

    def as_sqlite(self, compiler: Any, connection: Any, **more: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="((julianday(%(expressions)s) - 2440587.5) * 86400.0)", **more
        )

    def as_mysql(self, compiler: Any, connection: Any, **more: Any) -> Any:
        template = "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', %(expressions)s) / 1000000.0)"
        return self.as_sql(compiler, connection, template=template, **more)

    def as_oracle(self, compiler: Any, connection: Any, **more: Any) -> Any:
        template = "((CAST(%(expressions)s AS DATE) - DATE '1970-01-01') * 86400)"
        return self.as_sql(compiler, connection, template=template, **more)
