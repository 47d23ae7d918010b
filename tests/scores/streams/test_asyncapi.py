"""docs/asyncapi.yaml says of messages what the service takes."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml
from django.conf import settings
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from scores.log.ledger import Change, Kind
from scores.streams.events import Event, messages
from scores.streams.messages import dead_queue, entries_of, queued
from tools.servers import ROOT

from .test_ingest import BAD

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
MESSAGE: dict[str, Any] = DOCUMENT["components"]["messages"]["entries"]
CHANNELS: dict[str, Any] = DOCUMENT["channels"]
# What no schema can say: sizes in bytes, keys twice, numbers as they are written, characters, and what is in the database.
NOT_IN_A_SCHEMA = {"message_too_large", "duplicate_key", "board_unknown", "unknown_action", "points_is_float"}
GOOD: list[Any] = [example["payload"] for example in MESSAGE["examples"]]


def is_described(content: Any, schema: str = "entries") -> bool:
    registry = Registry().with_resource("", DRAFT202012.create_resource(DOCUMENT))
    validator = jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{schema}"}, registry=registry, _resolver=registry.resolver()
    )
    return bool(validator.is_valid(content))


@pytest.mark.parametrize("content", GOOD)
def test_the_examples_are_described_and_taken(content: Any) -> None:
    assert is_described(content)
    assert all(isinstance(entry.change, Change) for entry in entries_of(json.dumps(content).encode()))


@pytest.mark.parametrize("action", [None, "quest"])
def test_what_a_player_queues_is_described_and_read_as_it_was(action: str | None) -> None:
    change = Change(Kind.INCREMENT, "ada", 0 if action else 3, "k", action=action)

    assert is_described(json.loads(queued(change).body))
    assert [entry.change for entry in entries_of(queued(change).body)] == [change]


@pytest.mark.parametrize(("body", "code"), BAD)
def test_what_is_refused_for_its_form_is_not_described(body: bytes, code: str) -> None:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return
    if code not in NOT_IN_A_SCHEMA and "user_id" not in code:
        assert not is_described(content)


def test_the_channels_have_the_names_of_the_settings() -> None:
    assert CHANNELS["ingest"]["address"] == settings.INGEST_QUEUE
    assert CHANNELS["deadLetters"]["address"] == dead_queue(settings.INGEST_QUEUE)
    assert (
        CHANNELS["events"]["address"]
        == CHANNELS["events"]["bindings"]["amqp"]["exchange"]["name"]
        == settings.PUBLISH_TO
    )


EVENTS = [
    Event(
        1,
        "Zoë",
        "increment",
        7,
        7,
        "quest",
        None,
        None,
        None,
        "k",
        "service:arena",
        None,
        "2026-11-26T12:00:00.000001Z",
    ),
    Event(2, "ann", "score", -3, 0, None, "laps", None, None, None, "", '{"car":[1.50]}', None),
    Event(3, "ann", "void", 0, 0, None, "laps", 2, True, None, "root", None, "12026-11-26T12:00:00.000001Z"),
    Event(4, "eve", "block", 0, 0, None, "", None, None, None, "root", None, None),
    Event(5, "ann", "score", 3, 0, None, "laps", None, None, None, "", "{NaN", None),
    Event(6, "ann", "score", 3, 0, None, "laps", None, None, None, "", "[NaN]", None),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event.seq))
def test_what_is_published_is_described(event: Event) -> None:
    (alone,) = messages([event], "db7a56ee", batch=1)
    (several,) = messages([event, event], "db7a56ee", batch=2)

    assert is_described(json.loads(alone.body), "event")
    assert json.loads(several.body) == [json.loads(alone.body)] * 2


def test_metadata_is_published_as_json_and_as_a_text_if_it_is_none() -> None:
    (body,) = [message.body for message in messages(EVENTS, "db7a56ee", batch=6)]

    assert [event["data"].get("metadata") for event in json.loads(body)] == [
        *(None, {"car": [1.5]}, None, None),
        *("{NaN", "[NaN]"),
    ]


def test_the_example_of_an_event_is_described() -> None:
    (example,) = DOCUMENT["components"]["messages"]["event"]["examples"]

    assert is_described(example["payload"], "event")
