"""What of DATABASE_URL reaches PostgreSQL, and what a wrong one is told, without its password."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler

from leaderboard_site.conf.database import DEFAULTS, database_of
from tests.conftest import database_url
from tools.servers import Server, free_port


def entry(url: str) -> dict[str, Any]:
    """What Django gets of `url`, without what is the same for all."""
    database = database_of(url)
    assert database.pop("ENGINE") == "django.db.backends.postgresql"
    options = {name: value for name, value in database.pop("OPTIONS").items() if DEFAULTS.get(name) != value}
    return {name: value for name, value in database.items() if value} | options


@pytest.mark.parametrize(
    ("url", "database"),
    [
        (
            "postgresql://ada:secret@db.example.org:5433/scores",
            {"NAME": "scores", "USER": "ada", "PASSWORD": "secret", "HOST": "db.example.org", "PORT": "5433"},
        ),
        ("postgres://db/scores", {"NAME": "scores", "HOST": "db"}),
        (
            "postgresql://a:5432,b:5433/scores?target_session_attrs=read-write",
            {"NAME": "scores", "HOST": "a,b", "PORT": "5432,5433", "target_session_attrs": "read-write"},
        ),
        ("postgresql://a,b:5433/scores", {"NAME": "scores", "HOST": "a,b", "PORT": ",5433"}),
        (
            "postgresql://[::1]:5432,[2001:db8::1]/scores",
            {"NAME": "scores", "HOST": "::1,2001:db8::1", "PORT": "5432,"},
        ),
        (
            "postgresql://ada@/scores?host=/run/postgresql&port=5432",
            {"NAME": "scores", "USER": "ada", "HOST": "/run/postgresql", "PORT": "5432"},
        ),
        ("postgresql://%2Frun%2Fpostgresql/scores", {"NAME": "scores", "HOST": "/run/postgresql"}),
        ("postgresql:///scores", {"NAME": "scores"}),
        (
            "postgresql://ada:%40%2F%3A%3F%23%25%20+%C3%A9@db/a%20b",
            {"NAME": "a b", "USER": "ada", "PASSWORD": "@/:?#% +é", "HOST": "db"},
        ),
        (
            "postgresql://ada:a?b#c:d@db/scores?options=-c%20search_path%3Da@b",
            {
                "NAME": "scores",
                "USER": "ada",
                "PASSWORD": "a?b#c:d",
                "HOST": "db",
                "options": "-c search_path=a@b",
            },
        ),
        ("postgresql://db/scores?connect_timeout=7", {"NAME": "scores", "HOST": "db", "connect_timeout": "7"}),
        (
            "postgresql://db/scores?sslmode=verify-full&sslrootcert=/etc/ca.pem&application_name=my%20board",
            {
                "NAME": "scores",
                "HOST": "db",
                "sslmode": "verify-full",
                "sslrootcert": "/etc/ca.pem",
                "application_name": "my board",
            },
        ),
        (
            "postgresql:///?service=scores&passfile=/run/secrets/pgpass",
            {"service": "scores", "passfile": "/run/secrets/pgpass"},
        ),
    ],
)
def test_all_that_libpq_knows_reaches_django(url: str, database: dict[str, str]) -> None:
    assert entry(url) == database


def test_waits_are_bounded_unless_the_url_says_otherwise() -> None:
    assert database_of("postgresql://db/scores")["OPTIONS"] == DEFAULTS
    assert database_of("postgresql://db/scores?keepalives_idle=9")["OPTIONS"] == DEFAULTS | {"keepalives_idle": "9"}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://ada:hunter2@db/scores", "expected postgresql://"),
        ("host=db dbname=scores password=hunter2", "expected postgresql://"),
        ("postgresql://ada:hunter2@db", "names no database"),
        ("postgresql://ada:hunter2%zz@db/scores", "invalid percent-encoded token"),
        ("postgresql://ada:hunter2%00@db/scores", "forbidden value %00"),
        ("postgresql://ada:hunter2@[::1/scores", "end of string reached"),
        ("postgresql://ada@db/scores?password=hunter2&pool=true", "invalid URI query parameter"),
        ("postgresql://ada@db/scores?hunter2", "missing key/value separator"),
        # A character that separates, in a password that is not percent-encoded.
        ("postgresql://ada:hun@ter2@db/scores", "@ too many"),
        ("postgresql://ada:hun/ter2@db/scores", "@ too many"),
        ("postgresql://ada:1/hunter2@db/scores", "@ too many"),
        ("postgresql://ada:hun?@ter2@db/scores", "@ too many"),
        ("postgresql://ada:hun?a=b/ter2@db/scores", "invalid URI query parameter"),
        ("postgresql://ada@db/scores?options=-c a=hunter2", "extra key/value separator"),
        ("postgresql://ada:1?a=b/hunter2@db/scores", "invalid URI query parameter"),
        ("postgresql://ada:hunter2/scores", "port is not a number"),
        ("postgresql://db:0/scores?password=hunter2", "port is not a number"),
        ("postgresql://db:65536/scores?password=hunter2", "port is not a number"),
        ("postgresql:///scores?host=a,b&port=1,2,3&password=hunter2", "2 hosts have 3 ports"),
    ],
)
def test_a_wrong_url_is_told_what_is_wrong_without_its_password(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        database_of(url)

    assert told in str(refused.value)
    assert not any(part in str(refused.value) for part in ("hunter2", "ter2", "hun"))
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


# With a real PostgreSQL


@contextmanager
def connected(url: str) -> Iterator[BaseDatabaseWrapper]:
    """Django's own connection by `url`."""
    wrapper = ConnectionHandler({"default": database_of(url)})["default"]
    try:
        wrapper.ensure_connection()
        yield wrapper
    finally:
        wrapper.close()


def value_of(setting: str, wrapper: BaseDatabaseWrapper) -> Any:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT current_setting(%s)", [setting])
        return cursor.fetchone()[0]


@pytest.fixture
def tcp_port(board: None) -> Iterator[int]:
    """A port that leads to the tests' PostgreSQL, which itself listens on a Unix socket only."""
    database = connection.settings_dict
    address = f"{database['HOST']}/.s.PGSQL.{database['PORT']}"
    lines: list[socket.socket] = []

    def pump(here: socket.socket, there: socket.socket) -> None:
        try:
            while data := here.recv(65536):
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other direction found the end first

    def accept(listener: socket.socket) -> None:
        while True:
            try:
                here, _ = listener.accept()
            except OSError:
                return  # closed
            there = socket.socket(socket.AF_UNIX)
            there.connect(address)
            lines.extend((here, there))
            for pair in ((here, there), (there, here)):
                pumps.append(threading.Thread(target=pump, args=pair))
                pumps[-1].start()

    pumps: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))
    accepting = threading.Thread(target=accept, args=[listener])
    accepting.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    accepting.join()
    listener.close()
    for line in lines:
        try:
            line.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # ended already
    for thread in pumps:
        thread.join()
    for line in lines:
        line.close()


def test_parameters_reach_the_connection(board: None) -> None:
    url = database_url(application_name="my board", options="-c statement_timeout=1234", sslmode="disable")

    with connected(url) as wrapper:
        assert value_of("application_name", wrapper) == "my board"
        assert value_of("statement_timeout", wrapper) == "1234ms"
        assert wrapper.connection.info.get_parameters()["sslmode"] == "disable"
        assert wrapper.connection.info.get_parameters()["tcp_user_timeout"] == "2000"


def test_a_port_that_refuses_is_passed_over(tcp_port: int) -> None:
    name = connection.settings_dict["NAME"]

    with connected(f"postgresql://postgres@127.0.0.1:{free_port()},127.0.0.1:{tcp_port}/{name}") as wrapper:
        assert value_of("transaction_read_only", wrapper) == "off"
        assert wrapper.connection.info.port == tcp_port


def test_a_socket_that_is_not_there_is_passed_over(board: None, tmp_path: Path) -> None:
    sockets = connection.settings_dict["HOST"]

    with connected(database_url(host=f"{tmp_path},{sockets}")) as wrapper:
        assert wrapper.connection.info.host == sockets


def test_a_server_that_only_reads_is_refused_where_the_url_asks_for_writes(board: None) -> None:
    only_reads = "-c default_transaction_read_only=on"

    with connected(database_url(options=only_reads)) as wrapper:
        assert value_of("transaction_read_only", wrapper) == "on"
    with (
        pytest.raises(OperationalError, match="session is read-only"),
        connected(database_url(options=only_reads, target_session_attrs="read-write")),
    ):
        pass


def test_a_server_starts_on_the_second_of_two_hosts(tcp_port: int, tmp_path: Path) -> None:
    name = connection.settings_dict["NAME"]
    url = f"postgresql://postgres@127.0.0.1:{free_port()},127.0.0.1:{tcp_port}/{name}?target_session_attrs=read-write"
    server = Server(log=tmp_path / "log", env={"DATABASE_URL": url}).start()

    try:
        answer = httpx.get(f"{server.url}/api/v1/leaderboard", timeout=10)
        assert (answer.status_code, answer.json()["total"]) == (200, 0)
    finally:
        server.stop()
