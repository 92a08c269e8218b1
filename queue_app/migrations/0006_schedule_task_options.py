from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("queue_app", "0005_filter_indexes"),
    ]

    operations = [
        migrations.AddField(
            model_name="schedule",
            name="task_options",
            field=models.TextField(db_default="", default="", editable=False),
        ),
    ]
