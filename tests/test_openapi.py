"""docs/openapi.yaml: made from the code, whole, and what a running server does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http import HTTPMethod
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.validation import validate_schema

from scores import services
from tools.servers import ROOT, Server

from .conftest import TokenFor
from .test_docs import addresses, codes

FILE = ROOT / "docs" / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text())
# From `scores.services` only, of addresses and methods that no operation has, or of one entry of a batch or message.
OF_NO_OPERATION = {"already_blocked", "not_blocked", "method_not_allowed"}
OF_NO_OPERATION |= {"board_required", "points_and_score", "unknown_field", "key_required", "actor_invalid"}
OF_NO_OPERATION |= {"message_too_large"}
PASSWORD = "notes on the engine"


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_file_is_what_the_code_says() -> None:
    GENERATOR_STATS.reset()

    document = SchemaGenerator().get_schema(request=None, public=True)

    assert not GENERATOR_STATS, "drf-spectacular warns"
    validate_schema(document)
    made = OpenApiYamlRenderer().render(document, renderer_context={}).decode()
    assert made == FILE.read_text(), "make schema"


def test_every_address_is_described_by_every_method_it_has() -> None:
    described = {path: {method.upper() for method in methods} for path, methods in DOCUMENT["paths"].items()}

    assert described == {
        path: {method for method in HTTPMethod if hasattr(view.view_class, method.lower())} - {"OPTIONS", "HEAD"}
        for path, view in addresses().items()
    }


def test_every_error_code_stands_at_its_status() -> None:
    described: dict[str, int] = {}
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            problem = response.get("content", {}).get("application/problem+json")
            for code in problem["schema"]["properties"]["code"]["enum"] if problem else ():
                described[code] = int(status)

    assert described == {code: status for code, status in codes().items() if code not in OF_NO_OPERATION}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that can be used alone."""
    return schema | {"components": DOCUMENT["components"]}


def check(answer: httpx.Response, path: str) -> None:
    """The answer is one that the document foresees, in status, headers and body."""
    operation = DOCUMENT["paths"][path][answer.request.method.lower()]
    described = operation["responses"][str(answer.status_code)]
    for name, header in described.get("headers", {}).items():
        assert name in answer.headers or not header.get("required"), name
        if name in answer.headers:
            value: Any = answer.headers[name]
            if header["schema"]["type"] in ("integer", "number"):
                value = json.loads(value)
            jsonschema.validate(value, header["schema"])
    content = described.get("content")
    if content is None:
        assert answer.content == b""
        return
    media_type = answer.headers["content-type"].partition(";")[0]
    value = answer.text if media_type == "text/html" else answer.json()
    jsonschema.validate(value, resolved(content[media_type]["schema"]))


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def test_answers_about_scores_are_as_described(client: httpx.Client, token_for: TokenFor) -> None:
    path = "/api/v1/scores/increment"

    def post(body: Any = None, *, user: str = "ann", **headers: str) -> httpx.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.post(path, json=body, headers={"Authorization": f"Bearer {token_for(user)}"} | names)

    services.block(user_id="eve", actor="test", reason="bots")
    services.correct(user_id="max", total=2**53 - 1, actor="test", reason="start")
    statuses = []
    for answer in (
        post({"points": 10}),
        post({"points": 10}, Idempotency_Key="a"),
        post({"points": 10}, Idempotency_Key="a"),
        post({"points": 11}, Idempotency_Key="a"),
        post({"points": 10}, Idempotency_Key=""),
        post({"points": "10"}),
        post({}),
        post([]),
        post({"points": 1}, user="eve"),
        post({"points": 1}, user="max"),
        post({"points": 10}, Authorization="Bearer x"),
        post({"points": 10}, Content_Type="text/plain"),
        post({"points": "1" * 17_000}),
        post({"points": 10}, Host="elsewhere"),
    ):
        check(answer, path)
        statuses.append(answer.status_code)

    assert statuses == [200, 200, 200, 422, 400, 400, 400, 400, 403, 409, 401, 415, 413, 400]


def test_answers_about_the_board_are_as_described(client: httpx.Client, token_for: TokenFor) -> None:
    services.correct(user_id="ann", total=20, actor="test", reason="start")
    page = client.get("/api/v1/leaderboard")
    token = {"Authorization": f"Bearer {token_for('ann')}"}

    for answer, path, status in (
        (page, "/api/v1/leaderboard", 200),
        (client.get(page.url, headers={"If-None-Match": page.headers["etag"]}), "/api/v1/leaderboard", 304),
        (client.get("/api/v1/leaderboard", params={"limit": 0}), "/api/v1/leaderboard", 400),
        (client.get("/api/v1/leaderboard", params={"offset": "x"}), "/api/v1/leaderboard", 400),
        (client.get("/api/v1/users/ann"), "/api/v1/users/{userId}", 200),
        (client.get("/api/v1/users/nobody"), "/api/v1/users/{userId}", 404),
        (client.get("/api/v1/me", headers=token), "/api/v1/me", 200),
        (client.get("/api/v1/me", headers={"Authorization": f"Bearer {token_for('ben')}"}), "/api/v1/me", 404),
        (client.get("/api/v1/me"), "/api/v1/me", 401),
    ):
        assert answer.status_code == status
        check(answer, path)


def test_answers_about_tokens_are_as_described(client: httpx.Client) -> None:
    ada = {"username": "ada", "password": PASSWORD}

    def post(name: str, body: Any, status: int, **headers: str) -> Any:
        answer = client.post(f"/api/v1/auth/{name}", json=body, headers=headers)
        assert answer.status_code == status
        check(answer, f"/api/v1/auth/{name}")
        return answer.json() if answer.content and status < 300 else None

    post("register", ada, 201)
    post("register", ada | {"password": f"not {PASSWORD}"}, 409)
    post("register", {"username": "ben", "password": "1234"}, 400)
    post("register", ada, 406, Accept="text/html")
    post("register", ada, 400, Host="elsewhere")
    tokens = post("token", ada, 200)
    post("token", ada | {"password": "x"}, 401)
    newer = post("refresh", {"refresh": tokens["refresh"]}, 200)
    post("refresh", {"refresh": tokens["refresh"]}, 200)  # a retry
    newest = post("refresh", {"refresh": newer["refresh"]}, 200)
    post("refresh", {"refresh": tokens["refresh"]}, 401)
    post("refresh", {}, 400)
    post("logout", {"refresh": newest["refresh"]}, 204)
    post("logout", {"refresh": newest["refresh"]}, 401)
    post("logout", "x" * 17_000, 413)


def test_the_server_hands_out_the_same_document(client: httpx.Client) -> None:
    answer = client.get("/api/schema/")

    assert answer.headers["content-type"] == "application/vnd.oai.openapi+json"
    assert answer.json() == DOCUMENT


def test_the_page_of_the_api_takes_everything_from_here(client: httpx.Client) -> None:
    answer = client.get("/api/docs/")

    assert answer.status_code == 200
    assert "'unsafe" not in answer.headers["content-security-policy"]
    assert "<style" not in answer.text
    assert not re.search(r"<script>|\bon\w+=", answer.text)
    files = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert len(files) == 5
    for file in files:
        assert file.startswith("/")
        assert client.get(file).status_code == 200


@pytest.mark.parametrize("path", ["/api/docs/x", "/api/schema/x", "/api/v1/docs/"])
def test_beside_the_page_there_is_nothing(path: str, client: httpx.Client) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
