from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    """Django gives a text key a second index for LIKE; with the collation "C" the first index serves LIKE as well.

    An update of a score moves its row, so it writes every index of the table: an unused index costs every time.
    """

    dependencies = [("scores", "0001_initial")]

    operations = [
        migrations.RunSQL(
            """
            DO $$
            DECLARE name text;
            BEGIN
                FOR name IN
                    SELECT indexname FROM pg_indexes
                    WHERE schemaname = current_schema() AND tablename IN ('user_scores', 'blocks')
                      AND indexdef LIKE '%%varchar_pattern_ops%%'
                LOOP
                    EXECUTE format('DROP INDEX %%I', name);
                END LOOP;
            END $$
            """.replace("%%", "%"),
            migrations.RunSQL.noop,
        )
    ]
