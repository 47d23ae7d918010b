"""The broker, from BROKER_URL: RabbitMQ, or brokers of Kafka's protocol."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

EXAMPLE = "amqp://user:password@host:5672/ or kafka://host:9092,host2:9092"
ENCODE = "In names, passwords and values, write the characters / : @ ? # % & as %2F %3A %40 %3F %23 %25 %26."
KAFKA = re.compile(
    r"kafka://(?:(?P<user>[^:@/?#]*):(?P<password>[^@/?#]*)@)?(?P<hosts>[^@/?#]+)/?(?:\?(?P<query>[^#]*))?"
)
ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
PROPERTY = re.compile("[a-z]+(?:[._][a-z]+)*")
NAME = re.compile("[A-Za-z0-9._-]{1,200}")  # what both kinds of broker take for a queue, an exchange or a topic
# Without heartbeats a connection to a host that is gone lasts until the kernel gives it up. RabbitMQ's default is 60 s.
HEARTBEAT_S = 10


class Broker(NamedTuple):
    """Where a broker is. Its `repr` may be logged: it has no password."""

    kind: str  # rabbitmq or kafka
    url: str  # of RabbitMQ
    options: dict[str, str]  # of Kafka's clients

    def __repr__(self) -> str:
        return f"Broker({self.kind!r})"


def broker_of(url: str) -> Broker:
    """Reads BROKER_URL. Raises `ValueError`, whose text shows nothing of the URL: it may contain a password."""
    if url.startswith("kafka://"):
        return _kafka_of(url)
    if not url.startswith(("amqp://", "amqps://")):
        raise ValueError(f"expected {EXAMPLE}")
    try:
        parts = urlsplit(url)
        port = parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError(f"its host, port or parameters cannot be read. Expected {EXAMPLE}. {ENCODE}") from None
    if not parts.hostname or port == 0 or parts.fragment or parts.path.count("/") > 1:
        raise ValueError(f"expected {EXAMPLE}. {ENCODE}")
    return Broker("rabbitmq", _with_query(parts, {"heartbeat": str(HEARTBEAT_S)} | query), {})


def _with_query(parts: SplitResult, query: dict[str, str]) -> str:
    return parts._replace(query=urlencode(query)).geturl()


def _kafka_of(url: str) -> Broker:
    parts = KAFKA.fullmatch(url)
    if parts is None or not all(ADDRESS.fullmatch(host) for host in parts["hosts"].split(",")):
        raise ValueError(f"expected {EXAMPLE}. {ENCODE}")
    try:
        query = dict(parse_qsl(parts["query"] or "", keep_blank_values=True, strict_parsing=bool(parts["query"])))
    except ValueError:
        raise ValueError(f"its parameters cannot be read. Expected {EXAMPLE}. {ENCODE}") from None
    if not all(PROPERTY.fullmatch(name) for name in query):
        raise ValueError("its parameters are properties of librdkafka, such as security.protocol=SASL_SSL")
    login = {}
    if parts["user"]:
        login = {"sasl.username": unquote(parts["user"]), "sasl.password": unquote(parts["password"])}
        login |= {"security.protocol": "SASL_SSL", "sasl.mechanisms": "SCRAM-SHA-512"}
    return Broker("kafka", "", {"bootstrap.servers": parts["hosts"]} | login | query)
