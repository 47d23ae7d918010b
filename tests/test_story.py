"""The main job from end to end, as a client sees it that this project did not write."""

from __future__ import annotations

import asyncio
import json
import subprocess
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tools.servers import Server

from .conftest import TokenFor


async def frame(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(30):
        return dict(json.loads(await socket.recv()))


async def frame_with(socket: ClientConnection, entry: dict[str, Any]) -> dict[str, Any]:
    """The next frame whose board has `entry`."""
    while entry not in (found := await frame(socket))["leaderboard"]:
        pass
    return found


async def test_a_score_posted_with_curl_reaches_an_open_socket(server: Server, token_for: TokenFor) -> None:
    async with connect(server.ws_url) as socket:
        first = await frame(socket)
        assert first["type"] == "leaderboard_update"
        assert first["leaderboard"] == []

        answer = await asyncio.to_thread(curl, server, token_for("ann"), '{"points": 10}')

        assert answer == {"status": 200, "body": {"success": True, "newScore": 10}}
        second = await frame_with(socket, {"userId": "ann", "score": 10})
        assert set(second) == {"type", "leaderboard", "epoch", "seq"}
        assert (second["epoch"], second["seq"]) == (first["epoch"], 1)


def curl(server: Server, token: str, body: str) -> dict[str, Any]:
    command = ["curl", "-sS", "-w", "\n%{http_code}", f"{server.url}/api/v1/scores/increment", "-d", body]
    command += ["-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json"]
    body, _, status = subprocess.run(command, capture_output=True, check=True, text=True).stdout.rpartition("\n")
    return {"status": int(status), "body": json.loads(body)}


async def test_the_root_is_a_socket_too(server: Server) -> None:
    async with connect(f"ws://127.0.0.1:{server.port}/") as socket:
        assert (await frame(socket))["leaderboard"] == []


def test_from_sign_up_to_a_first_score(server: Server) -> None:
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=30) as client:
        registered = client.post("/auth/register", json={"username": "ann", "password": "correct horse 9"})
        assert registered.status_code == 201
        assert registered.json()["userId"] == "ann"
        signed_in = client.post("/auth/token", json={"username": "ann", "password": "correct horse 9"}).json()
        refreshed = client.post("/auth/refresh", json={"refresh": signed_in["refresh"]}).json()

        scored = client.post("/scores/increment", json={"points": 7}, headers=bearer(refreshed["access"]))

        assert (scored.status_code, scored.json()) == (200, {"success": True, "newScore": 7})
        me = client.get("/me", headers=bearer(refreshed["access"]))
        assert me.json() == {"userId": "ann", "score": 7, "rank": 1, "total": 1, "seq": 1}
        again = client.post("/auth/refresh", json={"refresh": signed_in["refresh"]})
        assert again.json()["refresh"] == refreshed["refresh"]
        assert client.post("/auth/logout", json={"refresh": refreshed["refresh"]}).status_code == 204
        assert client.post("/auth/refresh", json={"refresh": refreshed["refresh"]}).status_code == 401


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
