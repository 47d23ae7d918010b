from __future__ import annotations

import datetime
from typing import Any

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

# By codename; the names are Django's.
PERMISSIONS = {
    ("board", "view_board"): ("Can view board", ["Viewers", "Moderators", "Admins"]),
    ("board", "add_board"): ("Can add board", ["Admins"]),
    ("board", "change_board"): ("Can change board", ["Admins"]),
    ("board", "delete_board"): ("Can delete board", ["Admins"]),
    ("scoreevent", "void_scoreevent"): ("Can void events", ["Moderators", "Admins"]),
}
# As in migration 0002: with the collation "C" the key serves LIKE as well.
DROP_PATTERN_INDEXES_SQL = """
    DO $$
    DECLARE name text;
    BEGIN
        FOR name IN
            SELECT indexname FROM pg_indexes
            WHERE schemaname = current_schema() AND indexdef LIKE '%varchar_pattern_ops%'
              AND tablename IN ('boards', 'board_positions', 'followers', 'standings')
        LOOP
            EXECUTE format('DROP INDEX %I', name);
        END LOOP;
    END $$
"""
# The standings grow and move all the time: with the default, a fifth of the table is dead before anybody looks.
TUNE_SQL = (
    "ALTER TABLE standings SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05)"
)


def permit_groups(apps: Any, schema_editor: Any) -> None:
    """As in migration 0004, the permissions are made before Django makes them."""
    for (model, codename), (name, roles) in PERMISSIONS.items():
        content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
            app_label="scores", model=model
        )
        permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
            content_type=content_type, codename=codename, defaults={"name": name}
        )
        for role in roles:
            group, _ = apps.get_model("auth", "Group").objects.get_or_create(name=role)
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("scores", "0010_truncated_accounts"),
    ]

    operations = [
        migrations.CreateModel(
            name="Board",
            fields=[
                ("id", models.AutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(db_collation="C", max_length=64, unique=True)),
                ("title", models.CharField(db_default="", default="", max_length=120)),
                (
                    "fold",
                    models.CharField(choices=[("sum", "Sum"), ("best", "Best"), ("latest", "Latest")], max_length=6),
                ),
                (
                    "order",
                    models.CharField(
                        choices=[("higher", "Higher"), ("lower", "Lower")],
                        db_column="sort_order",
                        default="higher",
                        max_length=6,
                    ),
                ),
                ("ties", models.CharField(choices=[("first", "First"), ("id", "Id")], default="first", max_length=5)),
                (
                    "period",
                    models.CharField(
                        choices=[
                            ("forever", "Forever"),
                            ("hourly", "Hourly"),
                            ("daily", "Daily"),
                            ("weekly", "Weekly"),
                            ("monthly", "Monthly"),
                            ("hours", "Hours"),
                            ("season", "Season"),
                        ],
                        default="forever",
                        max_length=7,
                    ),
                ),
                ("zone", models.CharField(default="UTC", max_length=64)),
                ("cut_time", models.TimeField(default=datetime.time(0, 0))),
                ("cut_weekday", models.PositiveSmallIntegerField(default=0)),
                ("every_hours", models.PositiveIntegerField(null=True)),
                ("anchor", models.DateTimeField(null=True)),
                ("stream", models.CharField(db_collation="C", max_length=64, null=True)),
                ("action", models.CharField(db_collation="C", max_length=64, null=True)),
                ("least", models.BigIntegerField(null=True)),
                ("most", models.BigIntegerField(null=True)),
                (
                    "submitters",
                    models.CharField(
                        choices=[("players", "Players"), ("services", "Services")], default="players", max_length=8
                    ),
                ),
                ("keep", models.PositiveIntegerField(null=True)),
                ("is_public", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("archived_at", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "boards",
            },
        ),
        migrations.CreateModel(
            name="BoardPosition",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "board_id", "log", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("log", models.CharField(db_collation="C", max_length=64)),
                ("seq", models.BigIntegerField()),
                (
                    "board",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="positions",
                        to="scores.board",
                    ),
                ),
            ],
            options={
                "db_table": "board_positions",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="BoardStanding",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "board_id", "period", "user_id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("period", models.IntegerField()),
                ("user_id", models.CharField(db_collation="C", max_length=255)),
                ("key", models.BigIntegerField()),
                ("tie", models.BigIntegerField()),
                ("reached_seq", models.BigIntegerField()),
                ("hidden", models.BooleanField(db_default=False, default=False)),
                (
                    "board",
                    models.ForeignKey(
                        db_index=False,
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="standings",
                        to="scores.board",
                    ),
                ),
            ],
            options={
                "db_table": "standings",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Follower",
            fields=[
                ("name", models.CharField(db_collation="C", max_length=64, primary_key=True, serialize=False)),
                ("epoch", models.UUIDField(null=True)),
                ("seq", models.BigIntegerField(db_default=0, default=0)),
                ("holder", models.CharField(db_default="", default="", max_length=64)),
                ("is_dedicated", models.BooleanField(db_default=False, default=False)),
                ("lease_until", models.DateTimeField(null=True)),
            ],
            options={
                "db_table": "followers",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Period",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "board_id", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("number", models.IntegerField()),
                ("starts_at", models.DateTimeField(null=True)),
                ("ends_at", models.DateTimeField(null=True)),
                ("first_seq", models.BigIntegerField(null=True)),
                ("last_seq", models.BigIntegerField(null=True)),
                ("closed_at", models.DateTimeField(null=True)),
                (
                    "board",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="periods",
                        to="scores.board",
                    ),
                ),
            ],
            options={
                "db_table": "periods",
                "default_permissions": (),
            },
        ),
        migrations.AlterModelOptions(
            name="scoreevent",
            options={"permissions": [("void_scoreevent", "Can void events")]},
        ),
        migrations.AddField(
            model_name="action",
            name="ends_at",
            field=models.DateTimeField(
                blank=True, help_text="Empty: for ever. Not at that moment itself.", null=True, verbose_name="until"
            ),
        ),
        migrations.AddField(
            model_name="action",
            name="services_only",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Players cannot take it by themselves.",
                verbose_name="game servers only",
            ),
        ),
        migrations.AddField(
            model_name="action",
            name="starts_at",
            field=models.DateTimeField(blank=True, help_text="Empty: always.", null=True, verbose_name="from"),
        ),
        migrations.AddField(
            model_name="leaderboard",
            name="at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="leaderboard",
            name="calendar",
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="leaderboard",
            name="next_boundary",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="scoreevent",
            name="hidden",
            field=models.BooleanField(null=True),
        ),
        migrations.AddField(
            model_name="scoreevent",
            name="metadata",
            field=models.TextField(null=True),
        ),
        migrations.AddField(
            model_name="scoreevent",
            name="stream",
            field=models.CharField(db_collation="C", max_length=64, null=True),
        ),
        migrations.AddField(
            model_name="scoreevent",
            name="voids",
            field=models.BigIntegerField(null=True),
        ),
        migrations.AlterField(
            model_name="scoreevent",
            name="kind",
            field=models.CharField(
                choices=[
                    ("increment", "Increment"),
                    ("correction", "Correction"),
                    ("block", "Block"),
                    ("unblock", "Unblock"),
                    ("score", "Score"),
                    ("void", "Void"),
                ],
                max_length=10,
            ),
        ),
        migrations.AddConstraint(
            model_name="board",
            constraint=models.CheckConstraint(
                condition=models.Q(("name", "leaderboard"), _negated=True), name="boards_reserved_name"
            ),
        ),
        migrations.AddConstraint(
            model_name="board",
            constraint=models.CheckConstraint(
                condition=models.Q(("stream", None), ("action", None), _connector="OR"), name="boards_one_source"
            ),
        ),
        migrations.AddConstraint(
            model_name="board",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("anchor__isnull", False), ("every_hours__isnull", False), ("period", "hours")),
                    models.Q(models.Q(("period", "hours"), _negated=True), ("anchor", None), ("every_hours", None)),
                    _connector="OR",
                ),
                name="boards_hours",
            ),
        ),
        migrations.AddIndex(
            model_name="boardstanding",
            index=models.Index(
                condition=models.Q(("hidden", False)),
                fields=["board", "period", "key", "tie", "user_id"],
                name="standings_rank",
            ),
        ),
        migrations.AddConstraint(
            model_name="boardstanding",
            constraint=models.CheckConstraint(
                condition=models.Q(("key__range", (-9007199254740991, 9007199254740991))), name="standings_key_range"
            ),
        ),
        migrations.AddIndex(
            model_name="period",
            index=models.Index(condition=models.Q(("first_seq", None)), fields=["starts_at"], name="periods_to_begin"),
        ),
        migrations.AddIndex(
            model_name="period",
            index=models.Index(condition=models.Q(("last_seq", None)), fields=["ends_at"], name="periods_to_end"),
        ),
        migrations.AddConstraint(
            model_name="period",
            constraint=models.UniqueConstraint(fields=("board", "starts_at"), name="periods_of_board"),
        ),
        migrations.RunSQL(DROP_PATTERN_INDEXES_SQL, migrations.RunSQL.noop),
        migrations.RunSQL(TUNE_SQL, migrations.RunSQL.noop),
        migrations.RunPython(permit_groups, migrations.RunPython.noop),
    ]
