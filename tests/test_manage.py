"""`manage.py` with an environment that is wrong: a sentence for people, whatever the command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tools.servers import ROOT

KEY = "k" * 48
ELSEWHERE = {"DATABASE_URL": "postgresql://ann:secret@127.0.0.1:1/none", "REDIS_URL": "redis://127.0.0.1:1/0"}
COMPLETE = {"SECRET_KEY": KEY, "JWT_SIGNING_KEY": KEY, "ALLOWED_HOSTS": "scores.example.org"}


def manage(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1"} | ELSEWHERE | env
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", [["migrate", "--noinput"], ["issue_token", "--user", "arena-1"]])
def test_an_incomplete_environment_is_named(command: list[str]) -> None:
    ended = manage(*command, env={})

    assert ended.returncode == 1
    assert ended.stderr.startswith("The environment is incomplete or wrong:\n")
    assert [name for name in COMPLETE if f"{name} is not set." not in ended.stderr] == []
    assert "Traceback" not in ended.stderr


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    ended = manage("migrate", "--noinput", env=COMPLETE)

    assert ended.returncode == 1
    assert ended.stderr.startswith("PostgreSQL, as DATABASE_URL names it, does not answer: ")
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stderr


def test_whoever_asks_for_a_traceback_gets_it() -> None:
    assert "Traceback" in manage("migrate", "--traceback", env={}).stderr
