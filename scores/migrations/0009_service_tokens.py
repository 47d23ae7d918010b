from __future__ import annotations

from typing import Any

import django.db.models.functions.datetime
from django.db import migrations, models

# By codename; the names are Django's. Who may block users may block services, and therefore sees the tokens.
PERMISSIONS = {
    "view_servicetoken": ("Can view service token", ["Viewers", "Moderators", "Admins"]),
    "add_servicetoken": ("Can add service token", ["Admins"]),
    "change_servicetoken": ("Can change service token", ["Admins"]),
}
DROP_PATTERN_INDEX_SQL = """
    DO $$
    DECLARE name text;
    BEGIN
        FOR name IN
            SELECT indexname FROM pg_indexes
            WHERE schemaname = current_schema() AND tablename = 'service_tokens'
              AND indexdef LIKE '%varchar_pattern_ops%'
        LOOP
            EXECUTE format('DROP INDEX %I', name);
        END LOOP;
    END $$
"""
# Until now the actor of a game server was a user id like any other, so blocking that user or deactivating that account
# was the way to end its tokens. They stay ended: the service of that name is blocked by the same event, or by none.
# A longer name has no service, since an id has at most 255 characters.
BLOCK_SERVICES_SQL = """
    INSERT INTO blocks (user_id, seq)
    SELECT 'service:' || name, max(seq) FROM (
        SELECT user_id AS name, seq FROM blocks
        UNION ALL SELECT username, 0 FROM auth_user WHERE NOT is_active
    ) AS refused
    WHERE char_length(name) <= 247 AND NOT starts_with(name, 'service:')
    GROUP BY name
    ON CONFLICT DO NOTHING
"""


def permit_groups(apps: Any, schema_editor: Any) -> None:
    """As in migration 0004, the permissions are made before Django makes them."""
    content_type, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(
        app_label="scores", model="servicetoken"
    )
    groups = apps.get_model("auth", "Group").objects
    for codename, (name, roles) in PERMISSIONS.items():
        permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
            content_type=content_type, codename=codename, defaults={"name": name}
        )
        for role in roles:
            group, _ = groups.get_or_create(name=role)
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("scores", "0008_ended_accounts"),
    ]

    operations = [
        migrations.CreateModel(
            name="ServiceToken",
            fields=[
                (
                    "prefix",
                    models.CharField(db_collation="C", max_length=32, primary_key=True, serialize=False),
                ),
                ("name", models.CharField(max_length=64, verbose_name="service")),
                ("scopes", models.CharField(max_length=255)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), verbose_name="created"),
                ),
                ("created_by", models.CharField(max_length=150)),
                ("expires_at", models.DateTimeField(verbose_name="expires")),
                ("last_used_at", models.DateTimeField(blank=True, null=True, verbose_name="last used")),
                ("revoked_at", models.DateTimeField(blank=True, null=True, verbose_name="revoked")),
            ],
            options={
                "db_table": "service_tokens",
                "default_permissions": ("add", "change", "view"),
                "indexes": [models.Index(fields=["-created_at"], name="service_tokens_newest")],
            },
        ),
        # As in migration 0002: with the collation "C" the key serves LIKE as well.
        migrations.RunSQL(DROP_PATTERN_INDEX_SQL, migrations.RunSQL.noop),
        migrations.RunPython(permit_groups, migrations.RunPython.noop),
        migrations.RunSQL(BLOCK_SERVICES_SQL, "DELETE FROM blocks WHERE starts_with(user_id, 'service:')"),
    ]
