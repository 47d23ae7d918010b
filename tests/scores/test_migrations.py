"""Migrations may be killed anywhere and run again, and run on two hosts at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import RunSQL

from tests.conftest import database_url
from tests.programs import needs
from tools.pooler import Pooler
from tools.servers import ROOT

pytestmark = pytest.mark.slow
NAME = "test_migrations"
# Forks instead of starting anew: most of a short migrate is the import of Django.
KILLED_UNTIL_DONE = """
import os, random, signal, sys, time
import django
django.setup()
from django.core.management import call_command
chance = random.Random(int(sys.argv[1]))
for attempt in range(1, 200):
    if not (child := os.fork()):
        call_command("migrate", *sys.argv[2:], verbosity=0)
        os._exit(0)
    time.sleep(chance.uniform(0.04, 0.12) * (1 + attempt / 20))
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if status != signal.SIGKILL:
        sys.exit(status != 0)
sys.exit("never done")
"""
SCHEMA = """
    SELECT 'column', table_name || '.' || column_name, concat_ws(' ', data_type, character_maximum_length, is_nullable,
        column_default, collation_name) FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'index', indexname, indexdef || i.indisvalid
        FROM pg_indexes JOIN pg_index i ON i.indexrelid = indexname::regclass WHERE schemaname = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid)
        FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'migration', app || '.' || name, count(*)::text FROM django_migrations GROUP BY app, name
    UNION ALL SELECT 'permission', codename, count(*)::text FROM auth_permission GROUP BY codename
    UNION ALL SELECT 'group', name, count(*)::text FROM auth_group LEFT JOIN auth_group_permissions p
        ON p.group_id = auth_group.id GROUP BY name
    ORDER BY 1, 2, 3
"""


@pytest.fixture
def empty(board: None) -> Iterator[psycopg.Connection[Any]]:
    """A database without tables, beside the one of all tests."""
    with psycopg.connect(database_url("postgres"), autocommit=True) as server:
        server.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
        server.execute(f"CREATE DATABASE {NAME}")
        with psycopg.connect(database_url(NAME), autocommit=True) as database:
            yield database
        server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")  # also of those that a pooler keeps


def start(*command: str, url: str = "") -> subprocess.Popen[str]:
    environment = {"DATABASE_URL": url or database_url(NAME), "DJANGO_SETTINGS_MODULE": "leaderboard_site.settings"}
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=os.environ | environment, stderr=subprocess.PIPE, text=True
    )


def schema_of(database: psycopg.Connection[Any]) -> list[tuple[str, str, str]]:
    return database.execute(SCHEMA).fetchall()


def undisturbed() -> list[tuple[str, str, str]]:
    with psycopg.connect(database_url(), autocommit=True) as database:
        return schema_of(database)


def test_what_is_killed_at_any_moment_is_finished_later(empty: psycopg.Connection[Any]) -> None:
    killed = start("-c", KILLED_UNTIL_DONE, "1")

    assert killed.communicate()[1] == ""
    assert schema_of(empty) == undisturbed()


def test_an_index_of_many_events_is_killed_and_built_again(empty: psycopg.Connection[Any]) -> None:
    assert start("manage.py", "migrate", "-v0", "scores", "0006").communicate()[1] == ""
    empty.execute(
        "INSERT INTO score_events (seq, user_id, kind, points, total, action) "
        "SELECT n, 'user' || n % 1000, 'increment', 1, 1, 'win' FROM generate_series(1, 20_000) n"
    )

    killed = start("-c", KILLED_UNTIL_DONE, "2")

    assert killed.communicate()[1] == ""
    assert schema_of(empty) == undisturbed()


def test_two_hosts_migrate_at_once(empty: psycopg.Connection[Any]) -> None:
    both = [start("manage.py", "migrate", "-v0") for _ in range(2)]

    assert [migrate.communicate()[1] for migrate in both] == ["", ""]
    assert [migrate.returncode for migrate in both] == [0, 0]
    assert schema_of(empty) == undisturbed()


@needs("pgbouncer")
def test_a_pooler_may_be_in_between(empty: psycopg.Connection[Any], pooler: Pooler) -> None:
    assert start("manage.py", "migrate", "-v0", url=pooler.url(NAME)).communicate()[1] == ""
    assert schema_of(empty) == undisturbed()


def test_an_index_that_is_built_concurrently_replaces_what_an_interruption_left(board: None) -> None:
    """Which would be there, invalid, and let every later attempt fail."""
    migrations = MigrationLoader(connection).disk_migrations.values()
    ours = [migration for migration in migrations if migration.app_label == "scores"]
    for migration in ours:
        for before, operation in zip([None, *migration.operations], migration.operations, strict=False):
            if isinstance(operation, AddIndexConcurrently):
                assert isinstance(before, RunSQL), migration.name
                assert before.sql == f"DROP INDEX CONCURRENTLY IF EXISTS {operation.index.name}"
