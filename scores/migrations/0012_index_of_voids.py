from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """Concurrently with the writers: building it reads every existing event, to find that none is a void.

    If it is interrupted, the index stays behind, invalid: the next attempt drops it first.
    """

    atomic = False

    dependencies = [("scores", "0011_boards")]

    operations = [
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
