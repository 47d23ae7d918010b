"""The local stores: started by the first, shared by all, stopped by the last, and never in the way of the next start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from leaderboard_site import local
from leaderboard_site.local import DataDirectory, StoreError, Stores
from tools.servers import ROOT

Join = Callable[..., Stores]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# Another process that uses the stores, tells the number of its PostgreSQL, and stays until its input ends.
USER = """
import os, sys
from leaderboard_site import local
local.fill_in(lambda line: None)
print(open(os.environ["DATA_DIR"] + "/postgres/postmaster.pid").readline().strip(), flush=True)
sys.stdin.read()
"""

DURABILITY = (
    "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')"
)


@pytest.fixture
def join(tmp_path: Path) -> Iterator[Join]:
    """Joins the stores of a folder, as a process of its own would; what is said meanwhile goes to `said`."""
    joined: list[Stores] = []

    def make(folder: Path = tmp_path / "data", *, said: list[str] | None = None, postgresql: bool = True) -> Stores:
        stores = Stores(DataDirectory(folder), (said if said is not None else []).append)
        stores.join(postgresql=postgresql)
        joined.append(stores)
        return stores

    yield make
    for stores in joined:
        stores.leave()
    assert not any(stores.postgresql.answers() or stores.redis.answers() for stores in joined)


def user_of(folder: Path) -> subprocess.Popen[str]:
    names = ("DATABASE_URL", "REDIS_URL")
    env = {name: value for name, value in os.environ.items() if name not in names} | {"DATA_DIR": str(folder)}
    command = [sys.executable, "-c", USER]
    return subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def query(stores: Stores, sql: str) -> object:
    with psycopg.connect(stores.urls["DATABASE_URL"]) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchone() if cursor.description else None


def test_the_first_start_makes_a_database_and_the_second_joins_it(join: Join) -> None:
    first: list[str] = []
    second: list[str] = []

    stores = join(said=first)
    assert query(stores, "SELECT current_database(), upper('é')") == ("leaderboard", "É")
    join(said=second)

    assert "creating a database" in first[0]
    assert second == []


def test_commits_wait_for_the_disk_but_in_the_tests_own_postgresql(join: Join, board: None) -> None:
    stores = join()

    assert query(stores, DURABILITY) == ("on", "on", "on")
    with connection.cursor() as ours:
        ours.execute(DURABILITY)
        assert ours.fetchone() == ("off", "off", "on")


def test_who_leaves_last_stops_the_stores(join: Join) -> None:
    ann, bob = join(), join()

    ann.leave()
    assert bob.postgresql.answers()
    assert bob.redis.answers()
    bob.leave()

    assert not bob.postgresql.answers()
    assert not bob.redis.answers()
    assert not (bob.postgresql.home / "postmaster.pid").exists()


def test_what_was_written_survives_a_kill_of_everything(join: Join, tmp_path: Path) -> None:
    user = user_of(tmp_path / "data")
    assert user.stdout
    number = int(user.stdout.readline())
    stores = join()
    query(stores, "CREATE TABLE kept AS SELECT 42 AS value")
    stores.leave()
    for victim in (number, int((stores.redis.home / "redis.pid").read_text()), user.pid):
        os.kill(victim, signal.SIGKILL)
    user.communicate()

    assert query(join(), "SELECT value FROM kept") == (42,)


def test_two_processes_that_start_at_once_share_one_postgresql(tmp_path: Path) -> None:
    users = [user_of(tmp_path / "data") for _ in range(2)]

    told = [user.stdout.readline() for user in users if user.stdout]
    ends = [(user.communicate(), user.returncode)[1] for user in users]

    assert told[0] == told[1] != ""
    assert ends == [0, 0]
    assert not (tmp_path / "data" / "postgres" / "postmaster.pid").exists()


def test_a_first_start_that_was_interrupted_leaves_nothing_half_made(join: Join, tmp_path: Path) -> None:
    half = tmp_path / "data" / "postgres.new-abandoned"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")

    assert query(join(), "SELECT 1") == (1,)
    assert not half.exists()


def test_a_number_that_now_is_another_programs_does_not_keep_postgresql_from_starting(join: Join) -> None:
    stores = join()
    stores.leave()
    prefix = stores.directory.unprivileged_prefix()
    with subprocess.Popen([*prefix, sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        home = stores.postgresql.home
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (home / name).write_text(f"{other.pid}\n{home}\n1\n5432\n{home}\n\n")

        assert query(join(), "SELECT 1") == (1,)


@pytest.mark.parametrize("name", ["x" * 100, "a,b c"])
def test_a_folder_that_no_socket_can_be_named_in_gets_a_private_one_elsewhere(
    name: str, join: Join, tmp_path: Path
) -> None:
    stores = join(tmp_path / name)

    assert query(stores, "SELECT 1") == (1,)
    assert stores.redis.answers()
    assert stores.postgresql.sockets.stat().st_mode & 0o077 == 0
    stores.leave()
    assert not stores.postgresql.sockets.exists()


def test_a_socket_folder_somebody_else_could_have_made_is_refused(join: Join, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    sockets = Stores(DataDirectory(folder), print).postgresql.sockets
    sockets.mkdir(mode=0o755)

    with pytest.raises(StoreError, match="not a private folder"):
        join(folder)
    sockets.rmdir()


@as_root
def test_started_by_root_postgresql_is_an_ordinary_user(join: Join) -> None:
    number = (join().postgresql.home / "postmaster.pid").read_text().split()[0]

    assert Path("/proc", number).stat().st_uid != 0


@as_root
def test_another_users_data_is_refused_by_name(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data")
    program = "import sys, pathlib; from leaderboard_site import local\n"
    program += "try: local.DataDirectory(pathlib.Path(sys.argv[1]))\nexcept local.StoreError as e: print(e)"

    command = [*directory.unprivileged_prefix(), sys.executable, "-c", program, str(directory.path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert f"{directory.path} belongs to root" in told
    assert "DATA_DIR" in told


def test_without_its_program_a_store_says_what_to_install_or_set(
    join: Join, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leaderboard_site.local.programs.FOLDER", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(StoreError, match="set DATABASE_URL"):
        join()
    with pytest.raises(StoreError, match=r"Install redis-server .* or set REDIS_URL"):
        join(postgresql=False)


def test_secrets_stay_the_same_from_start_to_start(tmp_path: Path) -> None:
    first = [DataDirectory(tmp_path).secret(name) for name in ("SECRET_KEY", "JWT_SIGNING_KEY")]
    second = [DataDirectory(tmp_path).secret(name) for name in ("SECRET_KEY", "JWT_SIGNING_KEY")]

    assert first == second
    assert len(set(first)) == 2
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0


def test_with_both_urls_given_nothing_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL_FILE", "/run/secrets/database_url")
    monkeypatch.setenv("REDIS_URL", "redis://redis.example.org")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    before = dict(os.environ)

    assert local.fill_in() is None

    assert dict(os.environ) == before
    assert not (tmp_path / "data").exists()


def test_only_what_is_missing_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "SECRET_KEY", "JWT_SIGNING_KEY", "HTTPS", "REGISTRATION"):
        monkeypatch.setenv(name, "")  # so that what is filled in goes again after the test
    monkeypatch.setenv("DATABASE_URL", "postgresql://postgres.example.org/scores")
    monkeypatch.setenv("SECRET_KEY_FILE", "/run/secrets/secret_key")
    monkeypatch.setenv("JWT_PRIVATE_KEY", "a key")
    monkeypatch.setenv("REGISTRATION", "closed")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))

    stores = local.fill_in(lambda line: None)

    assert stores
    stores.leave()
    assert os.environ["REDIS_URL"] == stores.redis.url
    assert os.environ["HTTPS"] == "off"
    assert os.environ["REGISTRATION"] == "closed"
    assert os.environ["DATABASE_URL"] == "postgresql://postgres.example.org/scores"
    assert os.environ["SECRET_KEY"] == os.environ["JWT_SIGNING_KEY"] == ""
    assert not (tmp_path / "data" / "postgres").exists()
