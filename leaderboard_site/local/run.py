"""`make run`: everything on this machine, from nothing to a served leaderboard, told line by line.

Stores, tables, an administrator, then the production server. Ctrl-C, SIGTERM and a closed terminal stop all of it; after
a kill -9 the next run finds and uses what survived.
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
    # uvicorn has an orderly end for SIGTERM only.
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
        # Its own account of starting and stopping; ours is the one to read here.
        logging.getLogger("leaderboard_site.server.lifespan").setLevel(logging.WARNING)
        migrate()
        make_first_administrator()
        uvicorn_server.serve(listening=lambda: say(welcome(url)))
    finally:
        if stores is not None:
            # From here on impatience would only leave them running.
            for impatience in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(impatience, signal.SIG_IGN)
            stores.leave()


def end_with_terminal() -> None:
    """Wait for the terminal to close, if there is one, and end as if by SIGTERM.

    The signal of a closed terminal goes to the terminal's first process, which is `make` in `xterm -e make run`; and
    make waits for its child without telling it.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        return
    terminal = select.poll()
    terminal.register(sys.stdin.fileno(), 0)  # of its own accord it reports only errors and the end
    if any(event & select.POLLHUP for _, event in terminal.poll()):
        os.kill(os.getpid(), signal.SIGTERM)


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()  # it may be a pipe


def address() -> tuple[str, int]:
    """HOST and PORT, read before the settings are, which want the stores first."""
    read = Reader()
    host, port = read.text("HOST", "127.0.0.1"), read.integer("PORT", 8000, least=1, most=65535)
    read.finish()
    return host, port


@contextmanager
def only_run(url: str) -> Iterator[None]:
    """Hold the run lock of DATA_DIR, or end with status 1 saying who has it."""
    if not local.is_local():
        yield
        return
    directory = local.DataDirectory(local.data_dir())
    lock = directory.open("run.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        process, _, there = os.pread(lock, 200, 0).decode().strip().partition(" ")
        running = f"already running at {there} (process {process})" if there else "already starting"
        sys.exit(
            f"The leaderboard is {running} on the data in {directory}. Open it, stop it with Ctrl-C there,\n"
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
        say(f"Migrations: {len(plan)} to apply …")
        call_command("migrate", interactive=False, verbosity=0)


def make_first_administrator() -> None:
    if not get_user_model().objects.filter(is_superuser=True).exists():
        call_command("superuser")


def welcome(url: str) -> str:
    # Listening everywhere is no address to open.
    url = url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104  nothing is bound here
    json = "-H 'Content-Type: application/json'"
    register = f"curl -s {url}/api/v1/auth/register {json} -d '{PLAYER}'"
    token = f"$(curl -s {url}/api/v1/auth/token {json} -d '{PLAYER}' | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"access\"])')"
    increment = (
        f'curl -s {url}/api/v1/scores/increment {json} -H "Authorization: Bearer {token}" -d \'{{"points": 10}}\''
    )
    return f"""
The leaderboard is at {url}/
The admin is at {url}/admin/ (make superuser: a new password for it)

A player registers and gets a token, "access" in the answer:

  {register}

All in one line, to be pasted as often as you like: register, get a token, score 10 points.

  {register} -o /dev/null; {increment}

Ctrl-C stops everything.
"""


if __name__ == "__main__":
    main()
