from __future__ import annotations

from django.db import migrations

# All triggers before a TRUNCATE fire before the first of its tables is emptied: one that names `ended_accounts` too, as
# Django's `flush` does, leaves nothing.
TRIGGER = """
    CREATE FUNCTION accounts_truncated() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO ended_accounts (username) SELECT username FROM auth_user ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$;
    CREATE TRIGGER accounts_truncated BEFORE TRUNCATE ON auth_user
        FOR EACH STATEMENT EXECUTE FUNCTION accounts_truncated();
"""
NO_TRIGGER = """
    DROP TRIGGER accounts_truncated ON auth_user;
    DROP FUNCTION accounts_truncated();
"""


class Migration(migrations.Migration):
    """A TRUNCATE of the accounts ends them as well. The triggers of 0008 are on rows, and it fires none of those."""

    dependencies = [
        ("scores", "0009_service_tokens"),
    ]

    operations = [
        migrations.RunSQL(TRIGGER, NO_TRIGGER),
    ]
