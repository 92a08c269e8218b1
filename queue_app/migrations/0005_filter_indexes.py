"""Indexes for the filters of the admin, the API and the commands.

Each CREATE INDEX lets nothing write to its table until it is done: a few seconds for a million rows.
"""

from typing import Any

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


class OnPostgresql(migrations.RunSQL):
    """SQL for PostgreSQL; nothing is done elsewhere."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_backwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    dependencies = [
        ("queue_app", "0004_job_suspect"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="attempt",
            index=models.Index(
                condition=models.Q(("state", "succeeded"), _negated=True),
                fields=["state", "id"],
                name="queue_app_attempt_rare",
            ),
        ),
        migrations.AddIndex(
            model_name="attempt",
            index=models.Index(
                condition=models.Q(("error_class__gt", "")),
                fields=["error_class", "id"],
                name="queue_app_attempt_error",
                opclasses=["varchar_pattern_ops", "int8_ops"],
            ),
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(
                condition=models.Q(("replayed_at__isnull", True)),
                fields=["task", "-id"],
                name="queue_app_dead_task",
            ),
        ),
        migrations.AddIndex(
            model_name="deadletter",
            index=models.Index(
                condition=models.Q(("replayed_at__isnull", True)),
                fields=["queue", "-id"],
                name="queue_app_dead_queue",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("state__in", ["queued", "succeeded"]), _negated=True),
                fields=["state", "id"],
                name="queue_app_job_rare",
            ),
        ),
        # Read and kept up by models/summaries.py, which knows its name and the pages of a range.
        OnPostgresql(
            "CREATE INDEX queue_app_job_search ON queue_app_job USING brin (enqueued_at,"
            " task text_bloom_ops (n_distinct_per_range = 64), queue text_bloom_ops (n_distinct_per_range = 32))"
            " WITH (pages_per_range = 4)",
            "DROP INDEX IF EXISTS queue_app_job_search",
        ),
    ]
