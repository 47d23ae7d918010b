"""The local RabbitMQ: started where it is asked for, out of reach of other machines, and never without its messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import aio_pika
import pytest
from django.core.exceptions import ImproperlyConfigured

from leaderboard_site import local
from leaderboard_site.local import DataDirectory, StoreError, Stores
from leaderboard_site.local import rabbitmq as local_rabbitmq
from tools.servers import ROOT
from tools.stores import RabbitMQ

QUEUE = "tests.local"
SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LISTENS = "0A"  # the state of a socket there
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}

# A process such as `make run` until its server starts. It stays until its input ends.
USER = """
import os, sys
from leaderboard_site import local
local.fill_in(lambda line: print(line, flush=True))
print(os.environ["BROKER_URL"], flush=True)
sys.stdin.read()
"""


def user_of(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", USER]
    env = os.environ | {"DATA_DIR": str(folder), "BROKER": "on"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def publish(url: str, body: bytes) -> None:
    """Return when a queue has it on disk.

    Not a quorum queue: RabbitMQ 3.10 does not find one again that was made in the second before it was killed.
    """
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue(QUEUE, durable=True)
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=QUEUE)


async def take(url: str) -> list[bytes]:
    """All that the queue has, which is gone then."""
    async with await aio_pika.connect(url) as connection:
        queue = await (await connection.channel()).declare_queue(QUEUE, durable=True)
        bodies = []
        while message := await queue.get(fail=False):
            await message.ack()
            bodies.append(message.body)
        return bodies


def listeners(broker: RabbitMQ) -> dict[int, set[str]]:
    """The ports that the server and its epmd listen on, each with its addresses as the kernel writes them."""
    epmd = json.loads((broker.home / "access.json").read_text())["epmd"]
    links = [os.readlink(link) for link in Path(f"/proc/{broker.pid}/fd").iterdir()]
    found: dict[int, set[str]] = {}
    for line in [line.split() for file in SOCKETS if file.exists() for line in file.read_text().splitlines()[1:]]:
        address, port = line[1].split(":")
        if line[3] == LISTENS and (f"socket:[{line[9]}]" in links or int(port, 16) == epmd):
            found.setdefault(int(port, 16), set()).add(address)
    return found


async def test_what_it_confirmed_outlives_a_kill(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.url
    await publish(url, b"before the kill")

    rabbitmq.kill()
    assert not rabbitmq.answers()
    rabbitmq.boot()

    assert rabbitmq.url == url
    assert await take(url) == [b"before the kill"]


async def test_a_run_that_was_killed_leaves_it_to_the_next_and_the_last_stops_it(rabbitmq: RabbitMQ) -> None:
    await publish(rabbitmq.url, b"before the stop")
    try:
        for end in (subprocess.Popen.kill, subprocess.Popen.communicate):
            with user_of(rabbitmq.directory.path) as user:
                assert user.stdout
                assert user.stdout.readline() == f"{rabbitmq.url}\n"  # and nothing about a start
                assert rabbitmq.answers()
                end(user)

        assert not rabbitmq.runs()
    finally:
        rabbitmq.boot()
    assert await take(rabbitmq.url) == [b"before the stop"]


@pytest.mark.skipif(not SOCKETS[0].exists(), reason="there is no /proc that knows who listens where")
def test_only_this_machine_can_reach_it(rabbitmq: RabbitMQ) -> None:
    found = listeners(rabbitmq)

    assert len(found) == 3  # for clients, for other nodes, and for those who look for a node
    assert set.union(*found.values()) <= LOOPBACK


async def test_nobody_gets_in_without_the_password(rabbitmq: RabbitMQ) -> None:
    host = rabbitmq.url.partition("@")[2]

    with pytest.raises(aio_pika.exceptions.AMQPConnectionError):
        await aio_pika.connect(f"amqp://guest:guest@{host}")


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/proc").exists(), reason="only root can become another user")
def test_started_by_root_it_is_an_ordinary_user(rabbitmq: RabbitMQ) -> None:
    assert Path("/proc", str(rabbitmq.pid)).stat().st_uid != 0


def test_where_it_is_missing_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_rabbitmq, "DEBIANS", Path("/nowhere/rabbitmq-server"))
    monkeypatch.setattr(local_rabbitmq, "UNPACKED", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []

    with pytest.raises(StoreError) as error:
        Stores(DataDirectory(tmp_path / "data"), said.append).join(rabbitmq=True)

    assert "apt install --no-install-recommends rabbitmq-server" in str(error.value)
    assert "set BROKER_URL" in str(error.value)
    assert "\n" not in str(error.value)
    assert said == []


def test_a_broker_that_is_given_is_the_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER", "on")
    monkeypatch.setenv("BROKER_URL", "amqp://rabbitmq.example.org/")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))

    assert local.fill_in() is None

    assert os.environ["BROKER_URL"] == "amqp://rabbitmq.example.org/"
    assert not (tmp_path / "data").exists()


def test_broker_is_on_or_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER", "perhaps")

    with pytest.raises(ImproperlyConfigured, match="BROKER='perhaps': expected one of on, off"):
        local.fill_in()
    told = subprocess.run([sys.executable, "manage.py", "check"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert told.returncode == 1
    assert "BROKER='perhaps'" in told.stderr
    assert "Traceback" not in told.stderr
