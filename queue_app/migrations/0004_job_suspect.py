from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("queue_app", "0003_leadership"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="suspect",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Its process died, and it may have been the cause: it runs alone in a process until it survives.",
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="deaths",
            field=models.SmallIntegerField(
                default=0, help_text="Times that it alone ran when its process died."
            ),
        ),
    ]
