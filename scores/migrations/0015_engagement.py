from __future__ import annotations

from typing import Any

from django.db import migrations, models


def skip_pattern_indexes(apps: Any, schema_editor: Any) -> None:
    """As in migration 0002: with the collation "C" the key serves LIKE as well.

    Django makes them at the end of the migration, so here they can be left out, and not dropped.
    """
    schema_editor.deferred_sql = [sql for sql in schema_editor.deferred_sql if "varchar_pattern_ops" not in str(sql)]


def permit_groups(apps: Any, schema_editor: Any) -> None:
    """As in migration 0004, the permission is made before Django makes it."""
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="scores", model="engagementposition"
    )
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=content_type, codename="view_engagement", defaults={"name": "Can view engagement"}
    )
    for role in ("Viewers", "Moderators", "Admins"):
        group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=role)
        group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("scores", "0014_queued_refusals"),
    ]

    operations = [
        migrations.CreateModel(
            name="EngagementDay",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False)),
                ("players", models.BigIntegerField()),
                ("new_players", models.BigIntegerField()),
            ],
            options={
                "db_table": "engagement_days",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="EngagementHour",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "hour", "action", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("hour", models.DateTimeField()),
                ("action", models.CharField(db_collation="C", max_length=64)),
                ("increments", models.BigIntegerField()),
                ("points", models.DecimalField(decimal_places=0, max_digits=38)),
                ("scores", models.BigIntegerField()),
                ("voids", models.BigIntegerField()),
                ("voided", models.DecimalField(decimal_places=0, max_digits=38)),
            ],
            options={
                "db_table": "engagement_hours",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="EngagementPlayer",
            fields=[
                ("user_id", models.CharField(db_collation="C", max_length=255, primary_key=True, serialize=False)),
                ("first_day", models.DateField()),
                ("last_day", models.DateField()),
            ],
            options={
                "db_table": "engagement_players",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="EngagementPosition",
            fields=[
                ("log", models.CharField(db_collation="C", max_length=64, primary_key=True, serialize=False)),
                ("epoch", models.UUIDField()),
                ("seq", models.BigIntegerField()),
                ("mark", models.BigIntegerField()),
                ("at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "engagement_position",
                "permissions": [("view_engagement", "Can view engagement")],
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="EngagementSockets",
            fields=[
                ("hour", models.DateTimeField(primary_key=True, serialize=False)),
                ("peak", models.BigIntegerField()),
                ("samples", models.IntegerField()),
            ],
            options={
                "verbose_name_plural": "engagement sockets",
                "db_table": "engagement_sockets",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="EngagementWeek",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "week", "cohort", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("week", models.DateField()),
                ("cohort", models.DateField()),
                ("players", models.BigIntegerField()),
            ],
            options={
                "db_table": "engagement_weeks",
                "default_permissions": (),
            },
        ),
        migrations.RunPython(skip_pattern_indexes, migrations.RunPython.noop),
        migrations.RunPython(permit_groups, migrations.RunPython.noop),
    ]
