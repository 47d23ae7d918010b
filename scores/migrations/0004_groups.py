from __future__ import annotations

from typing import Any

from django.db import migrations

# Each group has the permissions of the group before it and these: app, model, codename, name. The names are Django's.
ROLES = [
    (
        "Viewers",
        [
            ("scores", "leaderboard", "view_leaderboard", "Can view leaderboard"),
            ("scores", "userscore", "view_userscore", "Can view user score"),
            ("scores", "scoreevent", "view_scoreevent", "Can view score event"),
            ("scores", "action", "view_action", "Can view action"),
        ],
    ),
    (
        "Moderators",
        [
            ("scores", "userscore", "correct_userscore", "Can correct scores"),
            ("scores", "userscore", "block_userscore", "Can block and unblock users"),
            ("scores", "userscore", "export_userscore", "Can export the list of users"),
        ],
    ),
    (
        "Admins",
        [
            ("scores", "leaderboard", "rebuild_leaderboard", "Can rebuild the copy in Redis"),
            ("scores", "action", "add_action", "Can add action"),
            ("scores", "action", "change_action", "Can change action"),
            ("scores", "action", "delete_action", "Can delete action"),
            ("auth", "user", "add_user", "Can add user"),
            ("auth", "user", "change_user", "Can change user"),
            ("auth", "user", "delete_user", "Can delete user"),
            ("auth", "user", "view_user", "Can view user"),
            ("auth", "group", "view_group", "Can view group"),
        ],
    ),
]


def make_groups(apps: Any, schema_editor: Any) -> None:
    """Create the groups. An existing group with one of these names keeps its permissions and gets these as well.

    Django creates permissions after all migrations, so an empty database has none yet: later Django finds those made
    here.
    """
    content_types = apps.get_model("contenttypes", "ContentType").objects
    permissions = apps.get_model("auth", "Permission").objects
    groups = apps.get_model("auth", "Group").objects
    allowed = []
    for role, more in ROLES:
        for app, model, codename, name in more:
            content_type, _ = content_types.get_or_create(app_label=app, model=model)
            permission, _ = permissions.get_or_create(
                content_type=content_type, codename=codename, defaults={"name": name}
            )
            allowed.append(permission)
        group, _ = groups.get_or_create(name=role)
        group.permissions.add(*allowed)


class Migration(migrations.Migration):
    dependencies = [
        ("scores", "0003_permissions"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    # No reverse: by then the groups may have members.
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
