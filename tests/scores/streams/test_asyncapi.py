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
from scores.streams.messages import dead_queue, entries_of, queued
from tools.servers import ROOT

from .test_ingest import BAD

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
MESSAGE: dict[str, Any] = DOCUMENT["components"]["messages"]["entries"]
CHANNELS: dict[str, Any] = DOCUMENT["channels"]
# What no schema can say: sizes in bytes, keys twice, numbers as they are written, characters, and what is in the database.
NOT_IN_A_SCHEMA = {"message_too_large", "duplicate_key", "board_unknown", "unknown_action", "points_is_float"}
GOOD: list[Any] = [example["payload"] for example in MESSAGE["examples"]]


def is_described(content: Any) -> bool:
    registry = Registry().with_resource("", DRAFT202012.create_resource(DOCUMENT))
    validator = jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/entries"}, registry=registry, _resolver=registry.resolver()
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
