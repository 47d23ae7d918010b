from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("scores", "0015_engagement"),
    ]

    operations = [
        migrations.AddField(
            model_name="follower",
            name="mark",
            field=models.BigIntegerField(db_default=0, default=0),
        ),
    ]
