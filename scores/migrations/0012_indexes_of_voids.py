from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Concurrently with the writers: building them reads every existing event.

    If one is interrupted, it stays behind, invalid: the next attempt drops it first.
    """

    atomic = False

    dependencies = [("scores", "0011_boards")]

    operations = [
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS score_events_moderated", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="scoreevent",
            index=models.Index(
                fields=["user", "seq"],
                condition=models.Q(kind__in=["correction", "block", "unblock"]),
                name="score_events_moderated",
            ),
        ),
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS score_events_voids", migrations.RunSQL.noop),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "CREATE UNIQUE INDEX CONCURRENTLY score_events_voids ON score_events (voids) WHERE voids IS NOT NULL",
                    "DROP INDEX CONCURRENTLY IF EXISTS score_events_voids",
                )
            ],
            state_operations=[
                migrations.AddConstraint(
                    model_name="scoreevent",
                    constraint=models.UniqueConstraint(
                        fields=["voids"],
                        condition=models.Q(voids__isnull=False),
                        name="score_events_voids",
                    ),
                )
            ],
        ),
    ]
