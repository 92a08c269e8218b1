from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("queue_app", "0007_audit_and_rights"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="lane",
            field=models.CharField(
                db_default="-",
                default="-",
                help_text="Jobs of one lane share its limit; '-': that of none.",
                max_length=128,
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="meta",
            field=models.TextField(
                blank=True,
                help_text="JSON text: what the job carries about itself, such as who asked for it.",
                null=True,
            ),
        ),
    ]
