"""Tokens of services: issued and shown once, told apart, rotated and revoked, at once and everywhere."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from redis import Redis

from scores.log.head import log
from scores.log.token_uses import TokenUses
from scores.models import ScoreEvent, ServiceToken, UserScore
from tests.conftest import TokenFor
from tests.polling import until
from tests.scores.conftest import stopped
from tools.servers import Server

SCOPE = "scores:write:any"


def run(*arguments: str) -> tuple[str, str]:
    """What `issue_token` says on stdout and on stderr."""
    out, err = StringIO(), StringIO()
    call_command("issue_token", *arguments, stdout=out, stderr=err)
    return out.getvalue().strip(), err.getvalue()


def issued(name: str = "arena", scope: str = SCOPE) -> str:
    return run("--service", name, "--scope", scope)[0]


def prefix_of(token: str) -> str:
    return token[: token.index("_", len("lbs_"))]


def score(client: httpx.Client, token: str, user_id: str = "ann") -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return client.post(f"/users/{user_id}/scores/increment", json={"points": 1}, headers=headers)


def waits_for_the_head() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%leaderboards b%'")
        return cursor.fetchone() is not None


def is_revoked(answer: httpx.Response) -> bool:
    challenge = answer.headers.get("WWW-Authenticate", "")
    return (
        answer.status_code == 401 and answer.json()["code"] == "token_revoked" and 'error="invalid_token"' in challenge
    )


# Issued


def test_a_token_is_shown_once_and_works(api: httpx.Client) -> None:
    token, said = run("--service", "arena", "--scope", SCOPE, "--days", "90")

    answer = score(api, token)

    assert answer.json() == {"success": True, "newScore": 1}
    assert ScoreEvent.objects.get().actor == "service:arena"
    row = ServiceToken.objects.get()
    assert token.startswith(f"{row.prefix}_")
    assert (row.name, row.scopes, row.created_by, (row.expires_at - row.created_at).days) == (
        "arena",
        SCOPE,
        "issue_token",
        90,
    )
    assert token not in said
    stored = json.dumps(list(ServiceToken.objects.values()), default=str)
    assert token not in stored
    assert token.rpartition(".")[2] not in stored


@pytest.mark.parametrize(
    "arguments",
    [
        ("--service", "", "--scope", SCOPE),
        ("--service", "service:arena", "--scope", SCOPE),
        ("--service", "x" * 65, "--scope", SCOPE),
        ("--service", "arena"),
        ("--service", "arena", "--scope", "root"),
        ("--service", "arena", "--scope", f"{SCOPE} SCORES:BATCH"),
        ("--service", "arena", "--scope", SCOPE, "--days", "0"),
        ("--service", "arena", "--scope", SCOPE, "--days", "3651"),
        ("--service", "arena", "--list"),
        ("--revoke", "lbs_unknown"),
        ("--revoke", "a\0"),
        ("--rotate", "lbs_unknown"),
        (),
    ],
    ids=" ".join,
)
@pytest.mark.writes_nothing
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], board: None) -> None:
    with pytest.raises(CommandError):
        run(*arguments)


def test_a_scope_may_be_given_before_there_is_an_address_for_it(api: httpx.Client) -> None:
    token = issued(scope="scores:batch boards:manage events:void analytics:read")

    answer = score(api, token)

    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    headers = {"Authorization": f"Bearer {token}"}
    own = api.post("/scores/increment", json={"points": 1}, headers=headers)
    assert (own.status_code, own.json()["code"]) == (403, "service_has_no_score")


def forged(token: str) -> dict[str, str]:
    """What somebody who has the token may try instead of it."""
    prefix, jwt = prefix_of(token), token[len(prefix_of(token)) + 1 :]
    return {
        "without its prefix": jwt,
        "with another prefix": f"lbs_{'a' * 12}_{jwt}",
        "with another separator": f"{prefix}.{jwt}",
        "with nothing after the prefix": f"{prefix}_",
        "prefix alone": prefix,
        "another signature": token[:-6] + "AAAAAA",
    }


def test_only_the_whole_token_is_one(api: httpx.Client) -> None:
    for what, text in forged(issued()).items():
        answer = score(api, text)

        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid"), what


def test_a_player_s_token_is_no_service_token(api: httpx.Client, token_for: TokenFor) -> None:
    prefix = prefix_of(issued())
    token = token_for("ann", jti=prefix, scope=SCOPE)

    assert score(api, f"{prefix}_{token}").json()["code"] == "token_invalid"


# Ended


def test_one_of_two_tokens_of_a_service_is_revoked(api: httpx.Client) -> None:
    first, second, other = issued(), issued(), issued("hall")
    assert {score(api, token).status_code for token in (first, second, other)} == {200}

    run("--revoke", prefix_of(first))

    assert is_revoked(score(api, first))
    assert is_revoked(api.get("/me", headers={"Authorization": f"Bearer {first}"}))
    assert [score(api, token).status_code for token in (second, other)] == [200, 200]
    assert UserScore.objects.get().score == 5
    with pytest.raises(CommandError, match="no active token"):
        run("--revoke", prefix_of(first))


def test_a_revoked_token_is_not_even_told_what_was_acknowledged(api: httpx.Client) -> None:
    token = issued()
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "match-1"}
    assert api.post("/users/ann/scores/increment", json={"points": 1}, headers=headers).status_code == 200

    run("--revoke", prefix_of(token))

    assert is_revoked(api.post("/users/ann/scores/increment", json={"points": 1}, headers=headers))


def test_every_worker_knows_at_once_also_without_redis(server: Server, token_for: TokenFor, tmp_path: Path) -> None:
    env = {"DATABASE_URL": server.env["DATABASE_URL"], "REDIS_URL": "redis://127.0.0.1:1/0", "WORKERS": "2"}
    cut_off = Server(log=tmp_path / "log", env=env).start()
    token, other, old = issued(), issued(), token_for("hall", scope=SCOPE)
    try:
        # The two workers share them.
        lines = [httpx.Client(base_url=f"{cut_off.url}/api/v1", verify=False, timeout=30) for _ in range(12)]
        assert {score(line, text).status_code for line in lines for text in (token, other, old)} == {200}
        run("--revoke", prefix_of(token))
        answers = [score(line, token) for line in lines]
        others = [score(line, text).status_code for line in lines for text in (other, old)]
        for line in lines:
            line.close()
    finally:
        cut_off.stop()

    assert all(is_revoked(answer) for answer in answers)
    assert set(others) == {200}
    assert ScoreEvent.objects.count() == 12 * 5
    used = dict(ServiceToken.objects.values_list("prefix", "last_used_at"))
    assert used[prefix_of(token)]  # written at the end, at the latest
    assert used[prefix_of(other)]


def test_a_redis_that_stands_still_does_not_keep_it_alive(api: httpx.Client, redis: Redis) -> None:
    token = issued()
    assert score(api, token).status_code == 200

    with stopped(redis):
        run("--revoke", prefix_of(token))

        assert is_revoked(score(api, token))


def test_a_token_that_is_revoked_while_its_increment_waits_counts_nothing(
    api: httpx.Client, rival: BaseDatabaseWrapper
) -> None:
    """The transaction began before the revocation, and waits for the head of the log."""
    for _ in range(5):
        token = issued()
        assert score(api, token).status_code == 200
        before = UserScore.objects.get().score

        with rival.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT FROM leaderboards FOR UPDATE")
            with ThreadPoolExecutor() as pool:
                answer = pool.submit(score, api, token)
                until(lambda answer=answer: waits_for_the_head() or answer.done())  # type: ignore[misc]
                run("--revoke", prefix_of(token))
                cursor.execute("ROLLBACK")
        if answer.result().status_code != 503:
            break  # else it waited for longer than it may: the machine stood still

    assert is_revoked(answer.result())
    assert UserScore.objects.get().score == before


def test_a_row_that_is_not_there_refuses(api: httpx.Client) -> None:
    """As after a restore of a backup from before the token."""
    token = issued()
    ServiceToken.objects.all().delete()

    assert is_revoked(score(api, token))


def test_a_rotated_token_ends_at_once(api: httpx.Client) -> None:
    old = issued()
    new, _ = run("--rotate", prefix_of(old), "--days", "7")

    assert (is_revoked(score(api, old)), score(api, new).status_code) == (True, 200)
    rows = ServiceToken.objects.order_by("created_at").values_list("prefix", "name", "scopes")
    assert list(rows) == [(prefix_of(token), "arena", SCOPE) for token in (old, new)]
    with pytest.raises(CommandError, match="no active token"):
        run("--rotate", prefix_of(old))


def test_or_after_a_grace(api: httpx.Client) -> None:
    old = issued()
    new, _ = run("--rotate", prefix_of(old), "--grace-minutes", "60")
    assert [score(api, token).status_code for token in (old, new)] == [200, 200]

    with connection.cursor() as cursor:  # the hour passes
        cursor.execute("UPDATE service_tokens SET expires_at = expires_at - interval '1 hour'")

    assert (is_revoked(score(api, old)), score(api, new).status_code) == (True, 200)


@pytest.mark.parametrize("minutes", ["-1", "43201"])
def test_a_grace_has_an_end(minutes: str, board: None) -> None:
    token = prefix_of(issued())

    with pytest.raises(CommandError, match="grace"):
        run("--rotate", token, "--grace-minutes", minutes)
    assert ServiceToken.objects.count() == 1


def test_the_list_says_all_but_the_secret(board: None) -> None:
    tokens = [issued("arena"), issued("hall", "scores:batch events:void")]
    run("--revoke", prefix_of(tokens[0]))

    listed, _ = run("--list")

    rows = [line.split() for line in listed.splitlines()[1:]]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        (prefix_of(tokens[1]), "hall", "active"),
        (prefix_of(tokens[0]), "arena", "revoked"),
    ]
    assert rows[0][-2:] == ["scores:batch", "events:void"]
    assert not any(token in listed for token in tokens)


# Used


def test_its_row_is_written_at_most_once_a_minute(board: None) -> None:
    prefix = prefix_of(issued())
    uses = [TokenUses(log), TokenUses(log)]  # of two processes
    seen: list[datetime | None] = []

    for at in (1_000_000, 1_000_030, 1_000_050, 1_000_061, 1_000_010):
        process = uses[at % 2]
        process._newest[prefix] = at
        process.write()
        seen.extend(ServiceToken.objects.values_list("last_used_at", flat=True))

    written = [used.timestamp() for used in seen if used is not None]
    assert written == [1_000_000, 1_000_000, 1_000_000, 1_000_061, 1_000_061]


def test_a_use_that_could_not_be_written_is_written_the_next_time(board: None, rival: BaseDatabaseWrapper) -> None:
    prefix = prefix_of(issued())
    uses = TokenUses(log)
    uses._newest[prefix] = 1_000_000.0

    with connection.cursor() as cursor, rival.cursor() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE service_tokens")
        cursor.execute("SET lock_timeout = '10ms'")
        with pytest.raises(DatabaseError):
            uses.write()
        other.execute("ROLLBACK")
        cursor.execute("RESET lock_timeout")
    uses.write()

    assert ServiceToken.objects.get().last_used_at is not None


# Tokens from before there were rows


def test_a_token_without_a_row_still_works_for_a_service(api: httpx.Client, token_for: TokenFor) -> None:
    old = token_for("arena", scope=SCOPE)

    assert score(api, old).status_code == 200
    assert ScoreEvent.objects.get().actor == "service:arena"
    assert not ServiceToken.objects.exists()


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def test_a_new_token_names_no_user(board: None) -> None:
    """A version from before there were rows would not ask for the row, so it must not take the token."""
    claims = claims_of(issued())

    assert "user_id" not in claims
    assert (claims["service"], claims["scope"]) == ("arena", SCOPE)
