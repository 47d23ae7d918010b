from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Concurrently with the writers: building it reads every existing event, to find that none has an action.

    If it is interrupted, the index stays behind, invalid: the next attempt drops it first.
    """

    atomic = False

    dependencies = [("scores", "0006_actions")]

    operations = [
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS score_events_of_action", migrations.RunSQL.noop),
        AddIndexConcurrently(
            model_name="scoreevent",
            index=models.Index(
                fields=["user", "action", "created_at"],
                condition=models.Q(("action__isnull", False)),
                name="score_events_of_action",
            ),
        ),
    ]
