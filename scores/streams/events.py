"""Events of the log as CloudEvents 1.0 in JSON.

By hand, since the package `cloudevents` would be one more to lock, for one envelope whose fields are all known. Its objects
also cost more than what they are about: an event is a text here that takes 3 µs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from django.conf import settings

from .broker import Message

EVENT = "application/cloudevents+json"
EVENTS = "application/cloudevents-batch+json"
# Of a message with many events: brokers of Kafka's protocol take 1 MB. An event has 10 KB at most, of which half is a key, an
# actor and a user id of the longest and widest characters.
MOST_BYTES = 512 * 1024
BATCH_TOPIC = "batch"
BATCH_KEY = "leaderboard"  # one partition for all of them, since each has events of many players
# The year may have five digits, and somebody may have made a time infinite: then the event has none.
TIME_SQL = """
    CASE WHEN isfinite(created_at) THEN to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END
"""
COLUMNS_SQL = (
    f"seq, user_id, kind, points, total, action, stream, voids, hidden, idempotency_key, actor, metadata, {TIME_SQL}"
)

encode = json.JSONEncoder(ensure_ascii=False).encode


class Event(NamedTuple):
    """A row of the log, as `COLUMNS_SQL` selects it: without the reason, which is free text about a person."""

    seq: int
    user_id: str
    kind: str
    points: int
    total: int
    action: str | None
    stream: str | None
    voids: int | None
    hidden: bool | None
    key: str | None
    actor: str
    metadata: str | None
    time: str | None

    @property
    def topic(self) -> str:
        """The routing key: the kind, and the board or action if there is one."""
        return f"{self.kind}.{about}" if (about := self.stream or self.action) else self.kind


def source() -> str:
    """Of all events of this service, as CloudEvents wants it: a reference that others do not have."""
    public = settings.PUBLIC_URL
    return f"{public.origin}{public.path}" if public else "/leaderboard"


def messages(events: Sequence[Event], origin: str, *, batch: int) -> list[Message]:
    """In the order of `events`, at most `batch` of them in a message; an array of events if that may be more than one."""
    of = encode(source())
    if batch == 1:
        return [
            Message(
                _envelope(event, origin, of), event.user_id, event.topic, f"{origin}.{event.seq}", content_type=EVENT
            )
            for event in events
        ]
    return [
        Message(b"[" + b",".join(portion) + b"]", BATCH_KEY, BATCH_TOPIC, content_type=EVENTS)
        for portion in _portions([_envelope(event, origin, of) for event in events], batch)
    ]


def _portions(envelopes: Sequence[bytes], batch: int) -> Iterator[list[bytes]]:
    portion: list[bytes] = []
    size = 0
    for envelope in envelopes:
        if len(portion) == batch or (portion and size + len(envelope) > MOST_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(envelope)
        size += len(envelope)
    if portion:
        yield portion


def _envelope(event: Event, origin: str, of: str) -> bytes:
    """`of` is the source, in JSON."""
    user_id, epoch = encode(event.user_id), encode(origin)
    more = ""
    if event.action is not None:
        more += f',"action":{encode(event.action)}'
    if event.stream:
        more += f',"board":{encode(event.stream)}'
    if event.voids is not None:
        more += f',"voids":{event.voids}'
    if event.hidden is not None:
        more += f',"hidden":{encode(event.hidden)}'
    if event.key is not None:
        more += f',"key":{encode(event.key)}'
    if event.actor:
        more += f',"actor":{encode(event.actor)}'
    if event.metadata is not None:
        more += f',"metadata":{_json(event.metadata)}'
    time = f'"time":"{event.time}",' if event.time else ""
    return (
        f'{{"specversion":"1.0","id":"{origin}.{event.seq}","source":{of},"type":"leaderboard.{event.kind}",'
        f'"subject":{user_id},{time}"datacontenttype":"application/json","sequence":"{event.seq:019d}",'
        f'"data":{{"epoch":{epoch},"seq":{event.seq},"userId":{user_id},"kind":{encode(event.kind)},'
        f'"points":{event.points},"total":{event.total}{more}}}}}'
    ).encode()


def _json(text: str) -> str:
    """What the service writes is JSON. What somebody wrote by hand may be anything, and must not spoil the message."""
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return encode(text)
    return text


def _refuse(constant: str) -> Any:
    raise ValueError(constant)
