
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("scores", "0002_drop_pattern_indexes"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="leaderboard",
            options={"permissions": [("rebuild_leaderboard", "Can rebuild the copy in Redis")]},
        ),
        migrations.AlterModelOptions(
            name="userscore",
            options={
                "permissions": [
                    ("correct_userscore", "Can correct scores"),
                    ("block_userscore", "Can block and unblock users"),
                    ("export_userscore", "Can export the list of users"),
                ]
            },
        ),
    ]
