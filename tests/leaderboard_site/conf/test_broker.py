"""BROKER_URL, as people write it."""

from __future__ import annotations

import pytest

from leaderboard_site.conf.broker import broker_of

SECRET = "secret"


@pytest.mark.parametrize(
    ("url", "kind", "options"),
    [
        ("amqp://host", "rabbitmq", {}),
        ("amqps://user:p%40ss@host:5671/vhost", "rabbitmq", {}),
        ("kafka://host", "kafka", {"bootstrap.servers": "host"}),
        ("kafka://a:9092,b:9093/", "kafka", {"bootstrap.servers": "a:9092,b:9093"}),
        (
            "kafka://user:p%40ss@[::1]:9092?security.protocol=SASL_PLAINTEXT",
            "kafka",
            {
                "bootstrap.servers": "[::1]:9092",
                "sasl.username": "user",
                "sasl.password": "p@ss",
                "sasl.mechanisms": "SCRAM-SHA-512",
                "security.protocol": "SASL_PLAINTEXT",
            },
        ),
    ],
)
def test_an_address_is_read(url: str, kind: str, options: dict[str, str]) -> None:
    broker = broker_of(url)

    assert (broker.kind, broker.options) == (kind, options)
    assert "p@ss" not in repr(broker)
    assert "p%40ss" not in repr(broker)


def test_a_connection_to_rabbitmq_has_heartbeats_unless_they_are_set() -> None:
    assert broker_of("amqp://host/").url == "amqp://host/?heartbeat=10"
    assert broker_of("amqp://host/?heartbeat=0").url == "amqp://host/?heartbeat=0"


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "host:5672",
        "amqp://",
        f"amqp://user:{SECRET}@host:0/",
        f"amqp://user:{SECRET}@host:port/",
        f"amqp://user:{SECRET}@host/a/b",
        f"amqp://user:{SECRET}@host/#a",
        f"amqp://user:{SECRET}@host/?a",
        "kafka://",
        "kafka://host:9092,",
        f"kafka://user:{SECRET}@",
        f"kafka://user:{SECRET}@host:9092?Bad=1",
        f"kafka://user:{SECRET}@host:9092?a",
        f"kafka://user:{SECRET}/x@host:9092",
    ],
)
def test_a_wrong_address_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match=r"[Ee]xpected|librdkafka") as told:
        broker_of(url)

    assert SECRET not in str(told.value)
