from __future__ import annotations

from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Now

NO_READABLE_TOKENS = "UPDATE token_blacklist_outstandingtoken SET token = '' WHERE token <> ''"
# After each change of a row, so that the check of an insert that waited for a deletion of the same name sees its result:
# under READ COMMITTED, each statement of a function has a new snapshot. The functions keep the search path of today,
# because `pg_restore` empties it.
TRIGGERS = """
    CREATE FUNCTION account_ended() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO ended_accounts (username) VALUES (OLD.username) ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$;
    CREATE FUNCTION account_begun() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        IF EXISTS (SELECT FROM ended_accounts WHERE username = NEW.username) THEN
            RAISE unique_violation USING MESSAGE = format('The username %L belonged to a deleted account', NEW.username);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER account_deleted AFTER DELETE ON auth_user FOR EACH ROW EXECUTE FUNCTION account_ended();
    CREATE TRIGGER account_renamed_from AFTER UPDATE OF username ON auth_user FOR EACH ROW
        WHEN (OLD.username IS DISTINCT FROM NEW.username) EXECUTE FUNCTION account_ended();
    CREATE TRIGGER account_created AFTER INSERT ON auth_user FOR EACH ROW EXECUTE FUNCTION account_begun();
    CREATE TRIGGER account_renamed_to AFTER UPDATE OF username ON auth_user FOR EACH ROW
        WHEN (OLD.username IS DISTINCT FROM NEW.username) EXECUTE FUNCTION account_begun();
"""
NO_TRIGGERS = """
    DROP TRIGGER account_deleted ON auth_user;
    DROP TRIGGER account_renamed_from ON auth_user;
    DROP TRIGGER account_created ON auth_user;
    DROP TRIGGER account_renamed_to ON auth_user;
    DROP FUNCTION account_ended();
    DROP FUNCTION account_begun();
"""


class Migration(migrations.Migration):
    """The names of deleted accounts, kept by triggers: no way to delete an account can forget them.

    Also empties the refresh tokens that earlier versions stored in readable form. That is the long part, so it comes
    before the triggers, whose creation locks the accounts until the end of the transaction.
    """

    dependencies = [
        ("scores", "0007_index_of_actions"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("token_blacklist", "0013_alter_blacklistedtoken_options_and_more"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunSQL(NO_READABLE_TOKENS, migrations.RunSQL.noop),
        migrations.CreateModel(
            name="EndedAccount",
            fields=[
                ("username", models.CharField(db_collation="C", max_length=150, primary_key=True, serialize=False)),
                ("ended_at", models.DateTimeField(db_default=Now())),
            ],
            options={"db_table": "ended_accounts"},
        ),
        migrations.RunSQL(TRIGGERS, NO_TRIGGERS),
    ]
