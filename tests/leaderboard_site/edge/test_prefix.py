"""Below a path: every address has it, and is found with it or, past a proxy that strips it, without."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest
from django.contrib.auth.models import User
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.conftest import PUBLIC_URL, TokenFor
from tools.servers import Server

ORIGIN, _, PREFIX = PUBLIC_URL.rpartition("/")
PREFIX = f"/{PREFIX}"
either_way = pytest.mark.parametrize("prefix", [PREFIX, ""], ids=["passed on", "stripped"])


@pytest.fixture
def proxied(below_a_path: Server) -> Iterator[httpx.Client]:
    """A client whose requests come as from a proxy on port 8443 that sends `Host $host`."""
    headers = {"Host": "scores.example.org", "X-Forwarded-Proto": "https"}
    with httpx.Client(base_url=below_a_path.url, headers=headers, verify=False, timeout=30) as client:
        yield client


@either_way
@pytest.mark.writes_nothing
def test_the_page_and_all_that_it_asks_for_are_found(prefix: str, proxied: httpx.Client) -> None:
    page = proxied.get(f"{prefix}/").text

    files = re.findall(r'(?:src|href)="(/[^"]*)"', page)
    assert len(files) > 3
    assert [file for file in files if not file.startswith(f"{PREFIX}/")] == []
    assert f"{PREFIX}/ws/leaderboard/" in files
    for file in files:
        if file.startswith(f"{PREFIX}/static/"):
            assert proxied.get(file.replace(PREFIX, prefix, 1)).status_code == 200


@either_way
@pytest.mark.writes_nothing
def test_the_reference_names_the_server_at_its_path(prefix: str, proxied: httpx.Client) -> None:
    page = proxied.get(f"{prefix}/api/docs/").text
    (schema,) = re.findall(r'data-schema="([^"]*)"', page)
    document = proxied.get(schema.replace(PREFIX, prefix, 1)).json()

    assert schema == f"{PREFIX}/api/schema/"
    assert document["servers"] == [{"url": PREFIX}]
    assert "/api/v1/leaderboard" in document["paths"]


@either_way
def test_points_are_added_and_read(prefix: str, proxied: httpx.Client, token_for: TokenFor) -> None:
    headers = {"Authorization": f"Bearer {token_for('ann')}"}

    added = proxied.post(f"{prefix}/api/v1/scores/increment", json={"points": 7}, headers=headers)
    board = proxied.get(f"{prefix}/api/v1/leaderboard", headers={"Host": "127.0.0.1"})  # the fast path
    standing = proxied.get(f"{prefix}/api/v1/users/ann")

    assert added.json()["newScore"] == 7
    assert [entry["userId"] for entry in board.json()["leaderboard"]] == ["ann"]
    assert standing.json()["score"] == 7


@either_way
@pytest.mark.parametrize("path", ["/ws/leaderboard/", "/ws/leaderboard", "/", ""])
@pytest.mark.writes_nothing
def test_sockets_open_for_pages_of_the_public_url(prefix: str, path: str, below_a_path: Server) -> None:
    address = f"ws://127.0.0.1:{below_a_path.port}{prefix}{path}"

    with connect(address, origin=Origin(ORIGIN)) as socket:
        assert json.loads(socket.recv(timeout=30))["type"] == "leaderboard_update"


@either_way
def test_an_administrator_signs_in_although_the_proxy_drops_the_port(prefix: str, proxied: httpx.Client) -> None:
    User.objects.create_superuser("ada", password="notes on the engine")
    asked = proxied.get(f"{prefix}/admin/")
    form = proxied.get(asked.headers["Location"].replace(PREFIX, prefix, 1))
    token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]*)"', form.text)[0]
    fields = {"username": "ada", "password": "notes on the engine", "csrfmiddlewaretoken": token}

    cookies = "; ".join(cookie.partition(";")[0] for cookie in form.headers.get_list("Set-Cookie"))
    signed_in = proxied.post(
        f"{prefix}/admin/login/?next={PREFIX}/admin/", data=fields, headers={"Origin": ORIGIN, "Cookie": cookies}
    )

    assert asked.headers["Location"] == f"{PREFIX}/admin/login/?next={PREFIX}/admin/"
    assert (signed_in.status_code, signed_in.headers["Location"]) == (302, f"{PREFIX}/admin/")
    set_cookies = signed_in.headers.get_list("Set-Cookie")
    assert set_cookies
    assert [cookie for cookie in set_cookies if f"Path={PREFIX};" not in cookie] == []


@pytest.mark.writes_nothing
def test_the_path_alone_leads_to_the_page(proxied: httpx.Client) -> None:
    answer = proxied.get(f"{PREFIX}?view=wall")

    assert (answer.status_code, answer.headers["Location"]) == (301, f"{PREFIX}/?view=wall")


@pytest.mark.parametrize("path", ["/healthz/live", "/healthz/ready", f"{PREFIX}/healthz/live"])
@pytest.mark.writes_nothing
def test_health_is_found_past_the_proxy(path: str, proxied: httpx.Client) -> None:
    assert proxied.get(path).status_code == 200


@pytest.mark.parametrize("path", [f"{PREFIX}x/", f"{PREFIX}{PREFIX}/api/v1/leaderboard"])
@pytest.mark.writes_nothing
def test_what_only_looks_like_the_path_is_not_it(path: str, proxied: httpx.Client) -> None:
    assert proxied.get(path).status_code == 404
