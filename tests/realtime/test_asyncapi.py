"""docs/asyncapi.yaml: its addresses are those of the sockets, and frames of a running server are as it says."""

from __future__ import annotations

import json
import re
from typing import Any, get_type_hints

import jsonschema
import pytest
import yaml
from websockets.sync.client import connect

from realtime import frames
from realtime.board_frames import BoardFrameEntry, BoardUpdate
from realtime.hub import TOP
from realtime.routing import denied, websocket_urlpatterns
from scores import services
from scores.models import MAX_TOTAL
from scores.user_id import MAX_LENGTH
from tools.servers import ROOT, Server

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
SCHEMA: dict[str, Any] = SCHEMAS["leaderboard_update"]
MESSAGE: dict[str, Any] = DOCUMENT["components"]["messages"]["leaderboard_update"]
OF_BOARD: dict[str, Any] = DOCUMENT["components"]["messages"]["board_update"]
CHANNELS: list[dict[str, Any]] = [channel for channel in DOCUMENT["channels"].values() if "ws" in channel["bindings"]]
# One that is asked for as its channel says.
ASKED = {"/ws/boards/": "/ws/boards/?board=leaderboard", "/ws/boards/{board}/": "/ws/boards/leaderboard/"}


def valid(frame: Any, kind: str = "leaderboard_update") -> bool:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[kind])
    return bool(jsonschema.Draft202012Validator(SCHEMAS[kind]).is_valid(frame))


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [value["$ref"]] if "$ref" in value else [ref for item in value.values() for ref in references(item)]
    return [ref for item in value for ref in references(item)] if isinstance(value, list) else []


def test_each_address_of_the_sockets_is_a_channel() -> None:
    patterns = [pattern for pattern in websocket_urlpatterns if pattern.callback is not denied]

    addresses = [channel["address"] for channel in CHANNELS]

    taken_by = [[bool(re.match(str(p.pattern), address.removeprefix("/"))) for p in patterns] for address in addresses]

    assert len(addresses) == len(patterns)
    assert [sum(takers) for takers in zip(*taken_by, strict=True)] == [1] * len(patterns)


def test_every_reference_leads_somewhere() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    for reference in references(DOCUMENT):
        target: Any = DOCUMENT
        for key in reference.removeprefix("#/").split("/"):
            target = target[key]


def test_the_schema_has_the_keys_and_the_bounds_of_the_code() -> None:
    entry = SCHEMA["properties"]["leaderboard"]["items"]

    assert SCHEMA["properties"].keys() == get_type_hints(frames.LeaderboardUpdate).keys()
    assert set(SCHEMA["required"]) == frames.LeaderboardUpdate.__required_keys__ - {"age"}
    assert entry["properties"].keys() == get_type_hints(frames.FrameEntry).keys() == set(entry["required"])
    assert SCHEMA["properties"]["leaderboard"]["maxItems"] == TOP
    assert entry["properties"]["score"]["maximum"] == MAX_TOTAL
    assert entry["properties"]["userId"]["maxLength"] == MAX_LENGTH


def test_the_schema_of_boards_has_the_keys_of_the_code() -> None:
    schema = SCHEMAS["board_update"]
    entry = schema["properties"]["leaderboard"]["items"]

    assert schema["properties"].keys() == get_type_hints(BoardUpdate).keys()
    assert set(schema["required"]) == BoardUpdate.__required_keys__ - {"age"}
    assert entry["properties"].keys() == get_type_hints(BoardFrameEntry).keys() == set(entry["required"])
    assert schema["properties"]["leaderboard"]["maxItems"] == TOP
    assert (entry["properties"]["score"]["minimum"], entry["properties"]["score"]["maximum"]) == (-MAX_TOTAL, MAX_TOTAL)


@pytest.mark.parametrize("example", OF_BOARD["examples"], ids=lambda example: str(example["name"]))
def test_an_example_is_a_frame_of_a_board(example: dict[str, Any]) -> None:
    assert valid(example["payload"], "board_update")


@pytest.mark.parametrize(
    "change", [{"period": 0}, {"startsAt": 1}, {"leaderboard": [{"userId": "ann", "score": 1}]}, {"at": None}]
)
def test_what_is_no_frame_of_a_board_is_not_taken_for_one(change: dict[str, Any]) -> None:
    assert not valid(OF_BOARD["examples"][0]["payload"] | change, "board_update")


@pytest.mark.parametrize("example", MESSAGE["examples"], ids=lambda example: str(example["name"]))
def test_an_example_is_a_frame(example: dict[str, Any]) -> None:
    assert valid(example["payload"])


@pytest.mark.parametrize(
    "change",
    [
        {"type": "other"},
        {"seq": "1"},
        {"seq": -1},
        {"age": 1},
        {"leaderboard": None},
        {"leaderboard": [{"userId": "ann"}]},
        {"leaderboard": [{"userId": "ann", "score": 1, "rank": 1}]},
        {"leaderboard": [{"userId": "ann", "score": 2**53}]},
        {"leaderboard": [{"userId": "ann", "score": 1}] * 11},
    ],
)
def test_what_is_no_frame_is_not_taken_for_one(change: dict[str, Any]) -> None:
    assert not valid(MESSAGE["examples"][0]["payload"] | change)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: str(channel["address"]))
def test_the_frames_of_a_server_are_as_described(channel: dict[str, Any], server: Server) -> None:
    (kind,) = channel["messages"]
    address = ASKED.get(channel["address"], channel["address"])
    with connect(f"ws://127.0.0.1:{server.port}{address}") as socket:
        seen = [json.loads(socket.recv(timeout=30))]
        for total, user_id in enumerate(["ann", "Zoë", "a" * 255, *(f"user{n}" for n in range(10))]):
            services.correct(user_id=user_id, total=total, actor="test", reason="start")
        services.correct(user_id="ann", total=MAX_TOTAL, actor="test", reason="start")
        while seen[-1]["seq"] < 14:
            seen.append(json.loads(socket.recv(timeout=30)))

    assert [frame for frame in seen if not valid(frame, kind)] == []
    first = seen[-1]["leaderboard"][0]
    assert (first["userId"], first["score"]) == ("ann", MAX_TOTAL)
