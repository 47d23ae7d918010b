"""The container files, as far as they can be proved without a container: what they run runs, what they name exists."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from leaderboard_site.local import DataDirectory, Stores
from tools.servers import ROOT, Server, free_port

DOCKERFILE = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text().replace("\\\n", " "), flags=re.MULTILINE)
FINAL = DOCKERFILE[DOCKERFILE.rindex("\nFROM") :]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def instructions(name: str) -> list[str]:
    return [found.strip() for found in re.findall(rf"^{name} (.*)$", FINAL, re.MULTILINE)]


def settings_names() -> set[str]:
    source = (ROOT / "leaderboard_site" / "settings.py").read_text()
    return set(re.findall(r'read\.\w+\(\s*"([A-Z_]+)"', source))


def here(command: list[str]) -> list[str]:
    """A command of the image, with this Python in the place of the image's."""
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


@pytest.mark.uvicorn("is not what the image starts")
@pytest.mark.writes_nothing
def test_the_image_starts_the_server_that_the_tests_start(server: Server) -> None:
    (command,) = instructions("CMD")

    assert here(json.loads(command)) == list(server.command)


@pytest.mark.uvicorn("is not what the image starts")
@pytest.mark.writes_nothing
def test_the_image_listens_where_its_environment_says(server: Server, tmp_path: Path) -> None:
    (text,) = instructions("ENV")
    env = dict(pair.split("=", 1) for pair in shlex.split(text) if not pair.startswith("PATH="))
    env |= {"DATABASE_URL": server.env["DATABASE_URL"], "PORT": str(port := free_port())}

    contained = Server(log=tmp_path / "log", env=env, port=port).start()

    address = httpx.get(f"http://127.0.0.2:{port}/healthz/live").status_code if sys.platform == "linux" else 200
    assert address == 200  # not only on 127.0.0.1
    assert contained.stop(getattr(signal, instructions("STOPSIGNAL")[0])) == 0


@pytest.mark.writes_nothing
def test_the_health_check_tells_a_living_server_from_none(server: Server) -> None:
    (text,) = instructions("HEALTHCHECK")
    command = here(json.loads(text.partition("CMD ")[2]))

    alive = subprocess.run(command, env=server.env, capture_output=True, check=False)
    dead = subprocess.run(command, env=server.env | {"PORT": str(free_port())}, capture_output=True, check=False)

    assert (alive.returncode, alive.stderr) == (0, b"")
    assert dead.returncode == 1


@pytest.mark.writes_nothing
def test_the_migration_of_compose_runs(server: Server) -> None:
    migrated = subprocess.run(here(SERVICES["migrate"]["command"]), cwd=ROOT, env=server.env, check=False)

    assert migrated.returncode == 0


def test_the_redis_of_compose_starts_and_keeps_nothing(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    redis = Stores(directory, print).redis
    program, *options = SERVICES["redis"]["command"]
    assert program == "redis-server"

    redis.home.mkdir()
    place = ["--port", "0", "--unixsocket", str(redis.socket), "--dir", str(redis.home), "--loglevel", "warning"]
    with subprocess.Popen([redis.program(), *options, *place], stdout=subprocess.PIPE, text=True) as process:
        while not redis.answers():
            assert process.poll() is None
        asked = redis._ask(b"CONFIG GET save")
        policy = redis._ask(b"CONFIG GET maxmemory-policy")
        process.terminate()

    assert asked.split() == [b"*2", b"$4", b"save", b"$0"]
    assert b"noeviction" in policy
    assert list(redis.home.iterdir()) == []


def test_the_health_check_of_postgres_is_its_own_program() -> None:
    kind, program, *_ = SERVICES["postgres"]["healthcheck"]["test"]

    assert (kind, program) == ("CMD", "pg_isready")


def test_the_server_is_not_root() -> None:
    assert instructions("USER") == ["leaderboard"]
    assert FINAL.index("\nUSER") > FINAL.index("useradd")


def test_commands_are_lists_so_that_signals_reach_them() -> None:
    commands = [json.loads(command) for command in instructions("CMD")]
    commands += [service["command"] for service in SERVICES.values() if "command" in service]

    assert len(commands) == 3
    assert all(isinstance(command, list) for command in commands)


def test_every_variable_is_one_of_the_settings() -> None:
    (text,) = instructions("ENV")
    named = {pair.split("=", 1)[0] for pair in shlex.split(text)}
    named |= {name for service in ("migrate", "web") for name in SERVICES[service]["environment"]}

    assert {name for name in named if not name.startswith("PYTHON")} - {"PATH"} <= settings_names()


def test_what_has_no_default_is_demanded_with_a_hint() -> None:
    demanded = {
        name: value for name, value in SERVICES["web"]["environment"].items() if re.search(r"\$\{\w+:\?Set .+\}", value)
    }

    assert demanded.keys() == {"DATABASE_URL", "SECRET_KEY", "ALLOWED_HOSTS"}


def test_the_web_waits_for_the_tables_and_for_redis() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["web"]["depends_on"] == {
        "migrate": {"condition": "service_completed_successfully"},
        "redis": {"condition": "service_healthy"},
    }


def test_the_image_gets_what_it_copies_and_nothing_private() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {words.split()[0] for words in re.findall(r"^COPY ((?!--).*)$", DOCKERFILE, re.MULTILINE)}

    assert "*" in ignored
    assert sent == copied
    assert all((ROOT / name).exists() for name in copied)
    packages = {name for name in os.listdir(ROOT) if (ROOT / name / "__init__.py").exists()}
    assert packages - {"tests", "tools"} <= sent


@pytest.mark.parametrize("script", [".ci/run", "manage.py"])
def test_a_script_can_be_started_by_name(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
