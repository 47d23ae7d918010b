"""`make run`: the whole leaderboard on this machine, from nothing to a running server, reported line by line.

It starts the stores, creates tables and an administrator, then runs the production server. Ctrl-C, SIGTERM and a closed
terminal stop all of it. After a kill -9, the next run finds and uses what survived.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from leaderboard_site import local
from leaderboard_site.conf.env import Reader
from leaderboard_site.server import uvicorn_server

PLAYER = '{"username": "ada", "password": "notes on the engine"}'


def main() -> None:
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # uvicorn shuts down in order on SIGTERM, but not on SIGHUP.
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    threading.Thread(target=end_with_terminal, daemon=True).start()
    try:
        host, port = address()
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        with only_run(url):
            uvicorn_server.refuse_taken_port(host, port)
            run(url)
    except (local.StoreError, ImproperlyConfigured) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(0)


def run(url: str) -> None:
    stores = local.fill_in(say)
    try:
        uvicorn_server.set_up()
        # It logs the start and the stop, which the lines of this module already report.
        logging.getLogger("leaderboard_site.server.lifespan").setLevel(logging.WARNING)
        migrate()
        make_first_administrator()
        uvicorn_server.serve(listening=lambda: say(welcome(url)))
    finally:
        if stores is not None:
            # From here on, another signal would only leave the stores running.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            stores.leave()


def end_with_terminal() -> None:
    """Waits until the terminal closes, if there is one, then ends this process as SIGTERM does.

    The signal of a closed terminal goes to the terminal's first process, which is `make` in `xterm -e make run`; and
    make waits for its child without passing the signal on.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        return
    terminal = select.poll()
    terminal.register(sys.stdin.fileno(), 0)  # with no events asked for, poll still reports errors and the hang-up
    if any(event & select.POLLHUP for _, event in terminal.poll()):
        os.kill(os.getpid(), signal.SIGTERM)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()  # standard output may be a pipe


def address() -> tuple[str, int]:
    """HOST and PORT, read before the settings, which need the stores first."""
    read = Reader()
    host, port = read.text("HOST", "127.0.0.1"), read.integer("PORT", 8000, least=1, most=65535)
    read.finish()
    return host, port


@contextmanager
def only_run(url: str) -> Iterator[None]:
    """Holds the run lock of DATA_DIR. If another run holds it, exits with status 1 and names that run."""
    if not local.is_local():
        yield
        return
    directory = local.DataDirectory(local.data_dir())
    lock = directory.open("run.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        process, _, its_url = os.pread(lock, 200, 0).decode().strip().partition(" ")
        running = f"already running at {its_url} (process {process})" if its_url else "already starting"
        sys.exit(
            f"A leaderboard is {running} with the data in {directory}. Open it, stop it with Ctrl-C there,\n"
            f"or start a second one with other data: make run PORT={address()[1] + 1} DATA_DIR={shlex.quote(f'{directory}2')}"
        )
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()} {url}\n".encode(), 0)
        yield
        os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def migrate() -> None:
    executor = MigrationExecutor(connection)
    if plan := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        say(f"Migrations: applying {len(plan)} …")
        call_command("migrate", interactive=False, verbosity=0)


def make_first_administrator() -> None:
    if not get_user_model().objects.filter(is_superuser=True).exists():
        call_command("superuser")


def welcome(url: str) -> str:
    # 0.0.0.0 and :: mean every address; a browser needs one of them.
    url = url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104  nothing is bound here
    json = "-H 'Content-Type: application/json'"
    register = f"curl -s {url}/api/v1/auth/register {json} -d '{PLAYER}'"
    token = f"$(curl -s {url}/api/v1/auth/token {json} -d '{PLAYER}' | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"access\"])')"
    increment = (
        f'curl -s {url}/api/v1/scores/increment {json} -H "Authorization: Bearer {token}" -d \'{{"points": 10}}\''
    )
    return f"""
The leaderboard is at {url}/
The admin is at {url}/admin/ (`make superuser` sets a new password)

Register a player. The response has a token, "access":

  {register}

In one line, to paste as often as you like: register, get a token, add 10 points.

  {register} -o /dev/null; {increment}

Ctrl-C stops everything.
"""


if __name__ == "__main__":
    main()
