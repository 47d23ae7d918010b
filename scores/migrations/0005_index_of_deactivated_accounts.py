from __future__ import annotations

from django.conf import settings
from django.db import migrations


class Migration(migrations.Migration):
    """Each transaction of increments asks which of its users are deactivated. Those are few, and they change rarely.

    Without this index, each user of a batch would cost a look-up in the index of the accounts and a read of the row.
    """

    dependencies = [
        ("scores", "0004_groups"),
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX auth_user_inactive ON auth_user (username) WHERE NOT is_active",
            "DROP INDEX auth_user_inactive",
        )
    ]
