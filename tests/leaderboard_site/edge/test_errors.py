"""Whatever goes wrong below /api/ is a problem, also where Django's own handler serves."""

from __future__ import annotations

import httpx
import pytest
from django.db.backends.base.base import BaseDatabaseWrapper

from tools.servers import Server

ACCOUNT = {"username": "ann", "password": "correct horse 9"}
AUTH = "/api/v1/auth"


def code(answer: httpx.Response) -> str:
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return str(answer.json()["code"])


@pytest.mark.parametrize("path", ["/token", "/refresh", "/nothing", ""])
@pytest.mark.writes_nothing
def test_a_host_that_is_not_ours_is_a_problem(path: str, server: Server) -> None:
    answer = httpx.post(f"{server.url}{AUTH}{path}", json=ACCOUNT, headers={"Host": "evil.example.org"}, verify=False)

    assert (answer.status_code, code(answer)) == (400, "bad_request")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.writes_nothing
def test_an_address_that_is_none_is_a_problem_for_every_method(method: str, server: Server) -> None:
    answer = httpx.request(method, f"{server.url}{AUTH}/nothing", verify=False)

    assert (answer.status_code, code(answer)) == (404, "not_found")


@pytest.mark.writes_nothing
def test_another_method_is_a_problem(server: Server) -> None:
    answer = httpx.get(f"{server.url}{AUTH}/token", verify=False)

    assert (answer.status_code, code(answer)) == (405, "method_not_allowed")


def test_a_mistake_of_ours_is_a_problem_and_says_nothing_of_itself(server: Server, rival: BaseDatabaseWrapper) -> None:
    """Django has no answer to a hash whose number of rounds is none."""
    httpx.post(f"{server.url}{AUTH}/register", json=ACCOUNT, verify=False)
    with rival.cursor() as cursor:
        cursor.execute("UPDATE auth_user SET password = 'pbkdf2_sha256$many$salt$hash' WHERE username = 'ann'")

    answer = httpx.post(f"{server.url}{AUTH}/token", json=ACCOUNT, verify=False)

    assert (answer.status_code, code(answer)) == (500, "internal_error")
    assert "many" not in answer.text


@pytest.mark.writes_nothing
def test_outside_of_the_api_it_is_a_page(server: Server) -> None:
    answer = httpx.get(f"{server.url}/admin/", headers={"Host": "evil.example.org"}, verify=False)

    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("text/html")
