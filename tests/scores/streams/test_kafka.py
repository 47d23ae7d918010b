"""What brokers of Kafka's protocol do that RabbitMQ does not: offsets, partitions, and a log that is still there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scores.log.writer import writer
from scores.models import UserScore
from scores.streams.broker import BrokerFailed, Message, sink
from tests.polling import until
from tools.kafka import Kafka, Noida, Tansu

from .conftest import Worker, use

pytestmark = pytest.mark.slow


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Noida]:
    broker = Noida(tmp_path)
    broker.boot()
    yield broker
    broker.kill()


def message(user_id: str, key: str) -> Message:
    return Message(json.dumps({"userId": user_id, "points": 1, "key": key}).encode(), key=user_id)


def totals() -> dict[str, int]:
    return dict(UserScore.objects.values_list("user_id", "score"))


def test_a_topic_of_several_partitions_is_drained_by_tansu_too(board: None, tmp_path: Path, settings: Any) -> None:
    tansu = Tansu(tmp_path)
    tansu.boot()
    try:
        use(tansu, "shared", settings, partitions=4)
        opened = sink("shared")
        opened.send([message(f"user-{n % 20}", f"{n}") for n in range(400)])
        opened.close()
        worker = Worker("shared", 50, writer.record)

        until(lambda: sum(totals().values()) == 400, 120)

        assert totals() == {f"user-{n}": 20 for n in range(20)}
        worker.stop()
    finally:
        tansu.kill()


def test_after_a_restart_of_the_broker_messages_and_offsets_are_there(
    board: None, broker: Kafka, settings: Any
) -> None:
    use(broker, "kept", settings)
    opened = sink("kept")
    opened.send([message("ann", "a")])
    worker = Worker("kept", 50, writer.record)
    until(lambda: totals() == {"ann": 1})
    worker.stop()
    opened.send([message("ann", "b")])
    opened.close()

    broker.stop()
    broker.boot()

    seen: list[Any] = []

    def record(changes: Any) -> Any:
        seen.extend(change.idempotency_key for change in changes)
        return writer.record(changes)

    worker = Worker("kept", 50, record)
    until(lambda: totals() == {"ann": 2})
    worker.stop()
    assert seen == ["b"]


def test_a_broker_that_goes_while_it_is_drained_is_drained_again(board: None, broker: Kafka, settings: Any) -> None:
    use(broker, "gone", settings)
    opened = sink("gone")
    opened.send([message("ann", "a")])
    worker = Worker("gone", 50, writer.record)
    until(lambda: totals() == {"ann": 1})

    broker.kill()
    with pytest.raises(BrokerFailed):
        opened.send([message("ann", "lost")])
    broker.boot()

    opened.send([message("ann", "b")])
    until(lambda: totals() == {"ann": 2})
    worker.stop()
    opened.close()
