from __future__ import annotations

from typing import Any

import django.db.models.deletion
from django.db import migrations, models

# By codename; the names are Django's.
PERMISSIONS = {
    ("boardresult", "view_boardresult"): ("Can view result", ["Viewers", "Moderators", "Admins"]),
    ("webhookdelivery", "view_webhookdelivery"): ("Can view webhook delivery", ["Admins"]),
    ("webhookdelivery", "change_webhookdelivery"): ("Can change webhook delivery", ["Admins"]),
}


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
        ("scores", "0012_indexes_of_voids"),
    ]

    operations = [
        migrations.AddField(
            model_name="board",
            name="rewards",
            field=models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict),
        ),
        migrations.AddField(
            model_name="board",
            name="settle_s",
            field=models.PositiveIntegerField(db_default=600, default=600),
        ),
        migrations.AddField(
            model_name="board",
            name="webhook_secret",
            field=models.CharField(db_default="", default="", max_length=200),
        ),
        migrations.AddField(
            model_name="board",
            name="webhook_url",
            field=models.CharField(db_default="", default="", max_length=500),
        ),
        migrations.CreateModel(
            name="BoardResult",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("period", models.IntegerField()),
                ("place", models.IntegerField()),
                ("user_id", models.CharField(db_collation="C", max_length=255)),
                ("score", models.BigIntegerField()),
                ("reached_seq", models.BigIntegerField()),
                ("reward", models.BigIntegerField(default=0)),
                ("reward_seq", models.BigIntegerField(null=True)),
                ("refusal", models.CharField(db_default="", default="", max_length=64)),
                (
                    "board",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="results",
                        to="scores.board",
                    ),
                ),
            ],
            options={
                "verbose_name": "result",
                "db_table": "results",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(
                        condition=models.Q(("refusal", ""), ("reward__gt", 0), ("reward_seq", None)),
                        fields=["board", "period"],
                        name="results_to_reward",
                    )
                ],
                "constraints": [models.UniqueConstraint(fields=("board", "period", "place"), name="results_places")],
            },
        ),
        migrations.CreateModel(
            name="WebhookDelivery",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("period", models.IntegerField()),
                ("url", models.CharField(default="", max_length=500)),
                ("attempts", models.IntegerField(default=0)),
                ("next_at", models.DateTimeField(null=True)),
                ("last_status", models.IntegerField(null=True)),
                ("last_error", models.CharField(default="", max_length=200)),
                ("delivered_at", models.DateTimeField(null=True)),
                (
                    "board",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="deliveries", to="scores.board"
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "webhook deliveries",
                "db_table": "webhook_deliveries",
                "default_permissions": ("view", "change"),
                "indexes": [
                    models.Index(
                        condition=models.Q(("next_at__isnull", False)),
                        fields=["next_at"],
                        name="webhook_deliveries_due",
                    )
                ],
                "constraints": [models.UniqueConstraint(fields=("board", "period"), name="webhook_deliveries_once")],
            },
        ),
        migrations.RunPython(permit_groups, migrations.RunPython.noop),
    ]
