from django.db import migrations, models

import queue_app.clock
import queue_app.domain.ids


class Migration(migrations.Migration):
    dependencies = [
        ("queue_app", "0006_schedule_task_options"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="deadletter",
            options={"ordering": ["-id"], "permissions": [("replay_deadletter", "Can run dead jobs again")]},
        ),
        migrations.AlterModelOptions(
            name="job",
            options={
                "ordering": ["-id"],
                "permissions": [
                    ("view_payload", "Can see arguments, results and tracebacks of jobs"),
                    ("submit_job", "Can submit jobs"),
                    ("operate_job", "Can cancel jobs"),
                ],
            },
        ),
        migrations.AlterModelOptions(
            name="queue",
            options={
                "ordering": ["name"],
                "permissions": [("operate_queue", "Can pause, resume, edit and delete queues")],
            },
        ),
        migrations.AlterModelOptions(
            name="schedule",
            options={
                "ordering": ["name"],
                "permissions": [("manage_schedule", "Can create, change, delete, pause and run schedules")],
            },
        ),
        migrations.AlterModelOptions(
            name="worker",
            options={"ordering": ["-id"], "permissions": [("operate_worker", "Can operate workers")]},
        ),
        migrations.CreateModel(
            name="AuditEvent",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=queue_app.domain.ids.new_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("at", models.DateTimeField(default=queue_app.clock.now)),
                (
                    "actor_kind",
                    models.CharField(
                        choices=[
                            ("user", "User"),
                            ("key", "Key"),
                            ("command", "Command"),
                            ("system", "System"),
                        ],
                        max_length=8,
                    ),
                ),
                ("actor_id", models.CharField(blank=True, default="", max_length=64)),
                ("actor", models.CharField(help_text="The actor's name at that time.", max_length=255)),
                ("verb", models.CharField(max_length=32)),
                (
                    "target_kind",
                    models.CharField(
                        help_text="job, deadletter, queue, schedule, task or worker.", max_length=16
                    ),
                ),
                (
                    "target_id",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Of the one that it was about; empty: many.",
                        max_length=255,
                    ),
                ),
                (
                    "filter",
                    models.JSONField(blank=True, help_text="By what the many were chosen.", null=True),
                ),
                (
                    "count",
                    models.IntegerField(
                        blank=True,
                        help_text="How many were changed; null: an intent, or not known, as the verb was stopped.",
                        null=True,
                    ),
                ),
                ("reason", models.CharField(blank=True, default="", max_length=500)),
                ("before", models.JSONField(blank=True, null=True)),
                ("after", models.JSONField(blank=True, null=True)),
                ("request_id", models.CharField(blank=True, default="", max_length=128)),
                (
                    "phase",
                    models.CharField(
                        choices=[("done", "Done"), ("intent", "Intent"), ("result", "Result")],
                        default="done",
                        max_length=8,
                    ),
                ),
                ("intent_id", models.UUIDField(blank=True, null=True)),
            ],
            options={
                "ordering": ["-id"],
                "base_manager_name": "objects",
                "indexes": [
                    models.Index(fields=["actor", "-id"], name="queue_app_audit_actor"),
                    models.Index(fields=["verb", "-id"], name="queue_app_audit_verb"),
                    models.Index(fields=["target_kind", "target_id", "-id"], name="queue_app_audit_target"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("intent_id__isnull", False)),
                        fields=("intent_id",),
                        name="queue_app_audit_result_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("intent_id__isnull", False), ("phase", "result")),
                            models.Q(
                                models.Q(("phase", "result"), _negated=True), ("intent_id__isnull", True)
                            ),
                            _connector="OR",
                        ),
                        name="queue_app_audit_intent",
                    ),
                ],
            },
        ),
    ]
