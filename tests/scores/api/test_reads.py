"""The board over HTTP, and that it is the same board whichever store it was read from."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest
from django_redis import get_redis_connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from scores import selectors, services
from scores.api.async_view import encode
from scores.api.views import board_answer
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import MAX_TOTAL
from scores.projection.leaderboard import PageQuestion, PlaceQuestion, Question, StandingQuestion, leaderboard
from scores.selectors import Page, Place, Source, Standing
from scores.user_id import is_user_id
from tests.conftest import TokenFor, empty_board
from tests.polling import until
from tests.scores.conftest import Post, stopped

Scores = dict[str, int]


def score(scores: Scores) -> None:
    """Give everybody their score, in one transaction."""
    writer.record([Change(Kind.CORRECTION, user_id, total) for user_id, total in scores.items()])


def users(answer: httpx.Response) -> list[str]:
    return [entry["userId"] for entry in answer.json()["leaderboard"]]


def _lasting(answer: httpx.Response) -> dict[str, str]:
    """The headers that two answers to one question share, however long the second takes."""
    passing = ("date", "x-leaderboard-age", "x-request-id")
    return {name: value for name, value in answer.headers.items() if name not in passing}


TIES = {"ann": 10, "bob": 30, "cid": 10, "dan": 30, "eve": 20, "Zoe": 10, "émile": 10, "🏆": 10, "ﬀ": 10}
RANKED = [  # by score, then by the bytes of the id, both falling
    (1, "dan", 30),
    (1, "bob", 30),
    (3, "eve", 20),
    (4, "🏆", 10),
    (4, "ﬀ", 10),
    (4, "émile", 10),
    (4, "cid", 10),
    (4, "ann", 10),
    (4, "Zoe", 10),
]


@pytest.fixture
def ties(board: None) -> None:
    """A board on which many share a score, and bytes, code units and alphabets would order them differently."""
    log.head()
    leaderboard.rebuild()
    score(TIES)


# Pages


def test_a_page_says_ranks_ids_and_scores_and_what_it_is_of(api: httpx.Client, increment: Post) -> None:
    increment("ann", 10)
    increment("bob", 20)

    answer = api.get("/leaderboard")

    assert answer.status_code == 200
    assert answer.json() == {
        "leaderboard": [{"rank": 1, "userId": "bob", "score": 20}, {"rank": 2, "userId": "ann", "score": 10}],
        "total": 2,
        "seq": 2,
    }
    assert answer.headers["X-Leaderboard-Source"] == "redis"
    assert answer.headers["X-Leaderboard-Seq"] == "2"


@pytest.mark.writes_nothing
def test_an_empty_board_is_a_page_too(api: httpx.Client) -> None:
    assert api.get("/leaderboard").json() == {"leaderboard": [], "total": 0, "seq": 0}


def test_a_page_has_ten_entries_unless_asked_otherwise(api: httpx.Client, increment: Post) -> None:
    for number in range(12):
        increment(f"user{number:02}", number + 1)

    assert len(users(api.get("/leaderboard"))) == 10
    assert users(api.get("/leaderboard?limit=2&offset=9")) == ["user02", "user01"]
    assert len(users(api.get("/leaderboard?limit=100"))) == 12
    assert api.get("/leaderboard?offset=12").json() == {"leaderboard": [], "total": 12, "seq": 12}


def test_a_rank_is_the_same_on_every_page(api: httpx.Client, increment: Post) -> None:
    for user_id, points in {"ann": 9, "bob": 9, "cid": 5, "dan": 5, "eve": 1}.items():
        increment(user_id, points)

    ranks = [api.get(f"/leaderboard?limit=1&offset={n}").json()["leaderboard"][0]["rank"] for n in range(5)]

    assert ranks == [1, 1, 3, 3, 5]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "limit_out_of_range"),
        ("limit=101", "limit_out_of_range"),
        ("limit=999999999", "limit_out_of_range"),
        ("limit=9999999999", "limit_invalid"),
        ("limit=abc", "limit_invalid"),
        ("limit=-1", "limit_invalid"),
        ("limit=1.0", "limit_invalid"),
        ("limit=1e1", "limit_invalid"),
        ("limit=%D9%A1%D9%A0", "limit_invalid"),
        ("limit=1%0A", "limit_invalid"),
        ("limit=%2010", "limit_invalid"),
        ("offset=-1", "offset_invalid"),
        ("offset=abc", "offset_invalid"),
        ("offset=9999999999", "offset_invalid"),
    ],
)
@pytest.mark.writes_nothing
def test_a_wrong_page_is_a_400_that_names_the_parameter(query: str, code: str, api: httpx.Client) -> None:
    answer = api.get(f"/leaderboard?{query}")

    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert list(answer.json()["errors"]) == [code.partition("_")[0]]


@pytest.mark.writes_nothing
def test_an_empty_parameter_is_none(api: httpx.Client) -> None:
    """A form with an empty field sends it so."""
    assert api.get("/leaderboard?limit=&offset=").status_code == 200


def test_the_farthest_page_is_empty(api: httpx.Client, increment: Post) -> None:
    increment("ann", 1)

    assert users(api.get("/leaderboard?offset=999999999")) == []


@pytest.mark.writes_nothing
def test_a_stale_token_does_not_hide_the_board(api: httpx.Client) -> None:
    assert api.get("/leaderboard", headers={"Authorization": "Bearer garbage"}).status_code == 200


def test_the_database_stands_in_for_a_redis_that_is_silent(api: httpx.Client, increment: Post, redis: Redis) -> None:
    increment("ann", 10)
    before = api.get("/leaderboard")

    with stopped(redis):
        answer = api.get("/leaderboard")

    assert (answer.status_code, answer.content) == (200, before.content)
    assert answer.headers["X-Leaderboard-Source"] == "database"
    assert answer.headers["ETag"] == before.headers["ETag"]
    until(lambda: api.get("/leaderboard").headers["X-Leaderboard-Source"] == "redis")


# Caching


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param("{tag}", id="the tag"),
        pytest.param("W/{tag}", id="weak"),
        pytest.param('"other", {tag}', id="in a list"),
        pytest.param('"other",{tag},"last"', id="in a list without blanks"),
        pytest.param('W/"other" , W/{tag}', id="weak in a list"),
        pytest.param("*", id="any"),
    ],
)
def test_who_has_the_page_is_told_so(sent: str, api: httpx.Client, increment: Post) -> None:
    increment("ann", 10)
    tag = api.get("/leaderboard").headers["ETag"]

    answer = api.get("/leaderboard", headers={"If-None-Match": sent.format(tag=tag)})

    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["ETag"] == tag
    assert answer.headers["X-Leaderboard-Seq"] == "1"
    assert answer.headers["Cache-Control"] == "no-cache"


@pytest.mark.writes_nothing
def test_an_answer_without_a_body_has_no_length(api: httpx.Client) -> None:
    """RFC 9110, section 8.6: none in a 204; in a 304 the length would be that of the page."""
    not_modified = api.get("/leaderboard", headers={"If-None-Match": "*"})
    no_content = api.options("/leaderboard")

    assert (not_modified.status_code, no_content.status_code) == (304, 204)
    assert "Content-Length" not in not_modified.headers
    assert "Content-Length" not in no_content.headers


@pytest.mark.parametrize(
    "query", ["", "?limit=1", "?offset=1", "?limit=2&offset=1", "?offset=1&limit=2", "?limit=0", "?x=1"]
)
@pytest.mark.parametrize("has_it", [False, True])
def test_the_short_way_answers_what_the_view_does(query: str, has_it: bool, api: httpx.Client, increment: Post) -> None:
    """The view is what a page of another origin gets, and who writes the query in another way."""
    increment("ann", 10)
    increment("bob", 10)
    had = {"If-None-Match": api.get(f"/leaderboard{query}").headers.get("ETag", "")} if has_it else {}

    short, view = (api.get(f"/leaderboard{query}", headers=had | more) for more in ({}, {"Origin": "https://else.org"}))

    assert (short.status_code, short.content) == (view.status_code, view.content)
    assert _lasting(short) == _lasting(view)
    assert short.status_code == (400 if query == "?limit=0" else 304 if has_it else 200)


@pytest.mark.parametrize("sent", ['"other"', "other", "", '"*"'])
@pytest.mark.writes_nothing
def test_who_has_another_page_gets_this_one(sent: str, api: httpx.Client) -> None:
    assert api.get("/leaderboard", headers={"If-None-Match": sent}).status_code == 200


def test_a_change_changes_the_tag(api: httpx.Client, increment: Post) -> None:
    before = api.get("/leaderboard").headers["ETag"]
    increment("ann", 10)

    answer = api.get("/leaderboard", headers={"If-None-Match": before})

    assert (answer.status_code, users(answer)) == (200, ["ann"])
    assert answer.headers["ETag"] != before


def test_another_form_of_the_same_page_has_another_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an upgrade. A proxy or a page that has the old form must not be told that it is the same."""
    before = board_answer(Page([], 0, "epoch", 7, Source.REDIS, 0.0), 10, 0, "")
    monkeypatch.setattr("scores.api.views.encode", lambda page: encode(page | {"form": "another"}))
    page = Page([], 0, "epoch", 7, Source.REDIS, 0.0)

    assert board_answer(page, 10, 0, before.headers["ETag"]).status == 200


def test_who_has_a_page_that_was_wrong_gets_the_right_one(api: httpx.Client, increment: Post, redis: Redis) -> None:
    """What somebody wrote into Redis is told until it is found, and no event comes when it is mended."""
    increment("ann", 10)
    pages: list[httpx.Response] = []

    def is_wrong() -> bool:  # unless it was mended before it was read
        redis.zadd("leaderboard", {"ann": 999})
        pages.append(api.get("/leaderboard"))
        return bool(pages[-1].json()["leaderboard"][0]["score"] == 999)

    until(is_wrong)
    wrong = pages[-1].headers["ETag"]
    redis.zadd("leaderboard", {"ann": 10})

    answer = api.get("/leaderboard", headers={"If-None-Match": wrong})

    assert (answer.status_code, answer.json()["leaderboard"][0]["score"]) == (200, 10)


@pytest.mark.writes_nothing
def test_each_page_has_a_tag_of_its_own(api: httpx.Client) -> None:
    pages = ["", "?limit=5", "?limit=5&offset=1", "?limit=51&offset=0"]

    tags = {api.get(f"/leaderboard{page}").headers["ETag"] for page in pages}

    assert len(tags) == len(pages)


def test_head_is_get_without_the_body(api: httpx.Client, increment: Post) -> None:
    increment("ann", 10)
    got = api.get("/leaderboard")

    answer = api.head("/leaderboard")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers.keys() == got.headers.keys()
    assert _lasting(answer) == _lasting(got)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE"])
@pytest.mark.writes_nothing
def test_the_board_is_only_read(method: str, api: httpx.Client) -> None:
    answer = api.request(method, "/leaderboard")

    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"


# One user


def test_a_user_stands_where_the_board_says(api: httpx.Client, increment: Post) -> None:
    for user_id, points in {"ann": 9, "bob": 9, "cid": 5}.items():
        increment(user_id, points)

    answers = [api.get(f"/users/{user_id}") for user_id in ("ann", "bob", "cid")]

    assert [answer.json()["rank"] for answer in answers] == [1, 1, 3]
    assert answers[2].json() == {"userId": "cid", "score": 5, "rank": 3, "total": 3, "seq": 3}
    assert answers[2].headers["X-Leaderboard-Source"] == "redis"
    assert answers[2].headers["X-Leaderboard-Seq"] == "3"


@pytest.mark.parametrize(
    "user_id",
    [
        "x/scores/increment",
        "a/b/scores/increment/scores/increment",
        "scores/increment",
        "/scores/increment",
        "x/scores/increment/",
        "x//scores/increment",
        "me",
        "me/",
        "/",
        "a//b",
        "a%2Fb",
        "a/...",
    ],
)
@pytest.mark.parametrize("safe", ["/", ""])
def test_who_can_score_can_be_read(user_id: str, safe: str, api: httpx.Client, increment: Post) -> None:
    increment(user_id, 10)

    answer = api.get(f"/users/{quote(user_id, safe=safe)}", headers={"Authorization": "Bearer garbage"})

    assert (answer.status_code, answer.json().get("userId")) == (200, user_id)


@pytest.mark.writes_nothing
def test_the_address_of_a_users_points_is_that_of_a_user_too(api: httpx.Client) -> None:
    path = "/users/x/scores/increment"
    answers = {method: api.request(method, path) for method in ("HEAD", "OPTIONS", "PATCH", "POST")}

    assert {method: answer.status_code for method, answer in answers.items()} == {
        "HEAD": 404,
        "OPTIONS": 204,
        "PATCH": 405,
        "POST": 401,
    }
    for method in ("OPTIONS", "PATCH"):
        assert answers[method].headers["Allow"] == "GET, POST, HEAD, OPTIONS"


def test_me_is_the_user_of_the_token(api: httpx.Client, increment: Post, token_for: TokenFor) -> None:
    increment("ann lee", 9)

    answer = api.get("/me", headers={"Authorization": f"Bearer {token_for('ann lee')}"})

    assert answer.json() == {"userId": "ann lee", "score": 9, "rank": 1, "total": 1, "seq": 1}


@pytest.mark.writes_nothing
def test_nobody_is_not_me(api: httpx.Client) -> None:
    answer = api.get("/me")

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


@pytest.mark.parametrize("path", ["/me", "/users/ann"])
def test_a_user_without_a_score_is_a_404_as_of_an_event(
    path: str, api: httpx.Client, increment: Post, token_for: TokenFor
) -> None:
    increment("bob", 1)

    answer = api.get(path, headers={"Authorization": f"Bearer {token_for('ann')}"})

    assert (answer.status_code, answer.json()["code"]) == (404, "no_score")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Leaderboard-Source"] == "redis"
    assert answer.headers["X-Leaderboard-Seq"] == "1"


@pytest.mark.parametrize(
    "user_id",
    [
        pytest.param("a%00b", id="NUL"),
        pytest.param("a%0Ab", id="line break"),
        pytest.param("a%0A", id="line break at the end"),
        pytest.param("%EF%BF%BD", id="replacement character"),
        pytest.param("e%CC%81", id="not NFC"),
        pytest.param("x" * 8_000, id="8,000 letters"),
    ],
)
@pytest.mark.writes_nothing
def test_what_cannot_be_an_id_has_no_score(user_id: str, api: httpx.Client) -> None:
    answer = api.get(f"/users/{user_id}")

    assert (answer.status_code, answer.json()["code"]) == (404, "no_score")


@pytest.mark.parametrize("user_id", ["M%FCller", "%ff%fe", "%ed%a0%80", "%EF%BF%BD%FC", "a/%C3"])
@pytest.mark.parametrize("suffix", ["", "/scores/increment"])
@pytest.mark.writes_nothing
def test_an_address_that_is_not_utf_8_is_none(user_id: str, suffix: str, api: httpx.Client) -> None:
    answer = api.get(f"/users/{user_id}{suffix}")

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    assert "UTF-8" in answer.json()["detail"]


def test_who_has_the_replacement_character_from_an_earlier_version_can_be_read(api: httpx.Client) -> None:
    score({"M\ufffdller": 10})

    answer = api.get("/users/M%EF%BF%BDller")

    assert (answer.status_code, answer.json()["score"]) == (200, 10)


# From either store


def both(
    questions: list[Question], redis: Redis
) -> tuple[list[Page | Standing | Place], list[Page | Standing | Place]]:
    """The answers of Redis, and after the loss of everything in it those of the database; each without its source."""
    from_redis = selectors.reader.answer_questions(questions)
    redis.flushall()
    from_database = selectors.reader.answer_questions(questions)
    assert {answer.source for answer in from_redis} == {Source.REDIS}
    assert {answer.source for answer in from_database} == {Source.DATABASE}
    return from_redis, [answer._replace(source=Source.REDIS) for answer in from_database]


def test_entries_are_by_score_and_then_by_the_bytes_of_the_id(ties: None, redis: Redis) -> None:
    from_redis, from_database = both([PageQuestion(100, 0)], redis)

    assert [tuple(entry) for entry in entries_of(from_redis[0])] == RANKED
    assert from_redis == from_database


def entries_of(answer: Page | Standing | Place) -> list[Any]:
    assert isinstance(answer, Page)
    return answer.entries


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_every_page_is_a_slice_of_the_whole(limit: int, ties: None, redis: Redis) -> None:
    offsets = range(12)

    from_redis, from_database = both([PageQuestion(limit, offset) for offset in offsets], redis)

    assert [entries_of(page) for page in from_redis] == [RANKED[offset : offset + limit] for offset in offsets]
    assert from_redis == from_database


def test_no_two_have_the_same_place(ties: None, redis: Redis) -> None:
    services.block(user_id=RANKED[0][1], actor="admin", reason="speed hack")
    rest = [user_id for _, user_id, _ in RANKED[1:]]

    from_redis, from_database = both([PlaceQuestion(user) for user in [*rest, RANKED[0][1], "a\0"]], redis)

    places = [answer.entry.position for answer in from_redis if isinstance(answer, Place) and answer.entry]
    assert places == list(range(1, len(RANKED)))
    assert from_redis == from_database


def test_a_blocked_user_is_in_neither_store(ties: None, redis: Redis) -> None:
    services.block(user_id="dan", actor="admin", reason="speed hack")
    services.block(user_id="nobody", actor="admin", reason="a name nobody may take")

    from_redis, from_database = both([PageQuestion(2, 0), *map(StandingQuestion, ("dan", "eve", "nobody"))], redis)

    page, dan, eve, nobody = from_redis
    assert [tuple(entry) for entry in entries_of(page)] == [(1, "bob", 30), (2, "eve", 20)]
    assert isinstance(dan, Standing)
    assert isinstance(eve, Standing)
    assert isinstance(nobody, Standing)
    assert (dan.entry, nobody.entry) == (None, None)
    assert eve.entry == (2, "eve", 20)
    assert eve.total == 8
    assert from_redis == from_database


def test_an_unblocked_user_comes_back_to_both(ties: None, redis: Redis) -> None:
    services.block(user_id="dan", actor="admin", reason="speed hack")
    services.unblock(user_id="dan", actor="admin", reason="it was lag")

    from_redis, from_database = both([PageQuestion(100, 0)], redis)

    assert [tuple(entry) for entry in entries_of(from_redis[0])] == RANKED
    assert from_redis == from_database


def test_the_largest_totals_are_exact_in_both(ties: None, redis: Redis) -> None:
    score({"ann": MAX_TOTAL, "bob": MAX_TOTAL - 1, "cid": MAX_TOTAL - 2, "dan": 0})

    from_redis, from_database = both([PageQuestion(3, 0), StandingQuestion("dan")], redis)

    assert [entry.score for entry in entries_of(from_redis[0])] == [MAX_TOTAL, MAX_TOTAL - 1, MAX_TOTAL - 2]
    assert from_redis == from_database


@pytest.mark.parametrize("user_id", ["a\0b", "x" * 300, "", "%s", "standing", "page", "ann\n"])
def test_neither_store_stumbles_over_an_odd_id(user_id: str, ties: None, redis: Redis) -> None:
    """One bad question must not spoil the answers to those that share its round trip."""
    from_redis, from_database = both([StandingQuestion(user_id), StandingQuestion("ann")], redis)

    stranger, ann = from_redis
    assert isinstance(stranger, Standing)
    assert isinstance(ann, Standing)
    assert stranger.entry is None
    assert ann.entry == (4, "ann", 10)
    assert from_redis == from_database


user_ids = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=3).filter(is_user_id)
boards = st.dictionaries(user_ids, st.integers(0, 4) | st.integers(0, MAX_TOTAL), min_size=1, max_size=12)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scores=boards, data=st.data())
def test_any_board_is_the_same_in_both(scores: Scores, data: st.DataObject, board: None) -> None:
    empty_board()
    log.head()
    leaderboard.rebuild()
    score(scores)
    blocked = data.draw(st.sets(st.sampled_from(sorted(scores))), label="blocked")
    writer.record([Change(Kind.BLOCK, user_id) for user_id in sorted(blocked)])
    pages = st.builds(PageQuestion, st.integers(1, 5), st.integers(0, 13))
    asked: list[Question] = [*data.draw(st.lists(pages, max_size=5), label="pages"), *map(StandingQuestion, scores)]

    from_redis, from_database = both([PageQuestion(100, 0), *asked], get_redis_connection())

    assert from_redis == from_database
    shown = [(user_id, total) for user_id, total in scores.items() if user_id not in blocked]
    shown.sort(key=lambda entry: (entry[1], entry[0].encode()), reverse=True)
    assert [(e.user_id, e.score) for e in entries_of(from_redis[0])] == shown


def test_equal_questions_are_asked_once_and_answered_each(ties: None) -> None:
    question = PageQuestion(1, 0)

    answers = selectors.reader.answer_questions([question, StandingQuestion("ann"), question])

    assert answers[0] is answers[2]


def test_standings_are_of_those_on_the_board(ties: None) -> None:
    services.block(user_id="bob", actor="admin", reason="speed hack")

    assert selectors.standings(["ann", "bob", "nobody"]) == {"ann": (3, "ann", 10)}


async def test_the_database_answers_a_request_when_redis_has_lost_the_board(ties: None, redis: Redis) -> None:
    redis.flushall()

    page = await selectors.top(2)

    assert page.source is Source.DATABASE
    assert [tuple(entry) for entry in page.entries] == RANKED[:2]
