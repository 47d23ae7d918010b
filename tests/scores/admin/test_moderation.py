"""What moderators do in the admin: correct, block and unblock, with a reason, and who may."""

from __future__ import annotations

import json
from typing import Any

import httpx
import psycopg
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.messages import get_messages
from django.test import Client
from redis import Redis
from websockets.sync.client import connect

from scores import services
from scores.admin.moderation import MAX_AT_ONCE
from scores.models import MAX_TOTAL, Block, ScoreEvent, UserScore
from tests.conftest import TokenFor
from tools.servers import Server

from .test_admin import USERS, logged_in, psycopg_parameters, score, score_all


@pytest.fixture
def moderator(copy: Redis) -> Client:
    return logged_in(member_of("Moderators", "mia"))


def member_of(role: str, name: str) -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return user


def act(client: Client, name: str, *users: str, reason: str = "bots", **fields: Any) -> Any:
    return client.post(f"{USERS}{name}/", {"user": users, "reason": reason, **fields})


def told(answer: Any) -> list[str]:
    """What the next page will say."""
    return [str(message) for message in get_messages(answer.wsgi_request)]


def newest_event() -> tuple[Any, ...]:
    event = ScoreEvent.objects.latest("seq")
    return event.user_id, event.kind, event.total, event.actor, event.reason


# One user


def test_a_score_is_corrected_with_a_reason(moderator: Client, copy: Redis) -> None:
    score(ann=20)

    answer = act(moderator, "correct", "ann", total=5, reason="scored twice")

    assert (answer.status_code, answer.url) == (302, f"{USERS}ann/change/")
    assert newest_event() == ("ann", "correction", 5, "mia", "scored twice")
    assert UserScore.objects.get().score == 5
    assert copy.zscore("leaderboard", "ann") == 5
    assert told(answer) == ["The player ann was corrected to 5 in event 2."]


def test_a_user_is_blocked_and_unblocked_with_a_reason(moderator: Client, copy: Redis) -> None:
    score(eve=99)

    act(moderator, "block", "eve", reason="bots")
    assert newest_event() == ("eve", "block", 99, "mia", "bots")
    assert copy.zscore("leaderboard", "eve") is None

    act(moderator, "unblock", "eve", reason="a mistake")
    assert newest_event() == ("eve", "unblock", 99, "mia", "a mistake")
    assert copy.zscore("leaderboard", "eve") == 99


def test_the_admins_own_log_tells_every_act(moderator: Client) -> None:
    score(ann=20)

    act(moderator, "correct", "ann", total=5, reason="scored twice")
    act(moderator, "block", "ann", reason="bots")

    entries = LogEntry.objects.order_by("id").values_list("user__username", "object_id", "change_message")
    assert list(entries) == [
        ("mia", "ann", "Corrected to 5 in event 2: scored twice"),
        ("mia", "ann", "Blocked in event 3: bots"),
    ]
    history = moderator.get(f"{USERS}ann/history/").content.decode()
    assert "Blocked in event 3: bots" in history


@pytest.mark.parametrize("name", ["correct", "block", "unblock"])
@pytest.mark.parametrize("reason", ["", "   ", "r" * 501, "nul\0"])
def test_nothing_happens_without_a_reason(name: str, reason: str, moderator: Client) -> None:
    score(ann=20)

    answer = act(moderator, name, "ann", total=5, reason=reason)

    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()
    assert ScoreEvent.objects.count() == 1
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("total", ["", "-1", str(MAX_TOTAL + 1), "1.5", "ten"])
def test_a_total_that_is_none_is_refused_where_it_was_typed(total: str, moderator: Client) -> None:
    score(ann=20)

    answer = act(moderator, "correct", "ann", total=total)

    assert answer.status_code == 200
    assert "errorlist" in answer.content.decode()
    assert UserScore.objects.get().score == 20


def test_an_act_asks_first(moderator: Client) -> None:
    score(**{"<b>ann": 20})

    page = moderator.get(f"{USERS}block/", {"user": "<b>ann"}).content.decode()

    assert "<bdi>&lt;b&gt;ann</bdi>" in page
    assert 'name="reason"' in page
    assert not Block.objects.exists()


def test_the_page_of_a_user_offers_what_fits(moderator: Client) -> None:
    score(ann=20, eve=99)
    services.block(user_id="eve", actor="test", reason="cheats")

    ann, eve = (moderator.get(f"{USERS}{name}/change/").content.decode() for name in ("ann", "eve"))

    assert [f'href="{USERS}{name}/?user=ann"' in ann for name in ("correct", "block", "unblock")] == [True, True, False]
    assert [f'href="{USERS}{name}/?user=eve"' in eve for name in ("correct", "block", "unblock")] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("name", "user", "said"),
    [
        ("block", "eve", "The player eve was not blocked: This user is already blocked."),
        ("unblock", "ann", "The player ann was not unblocked: This user is not blocked."),
        ("correct", "eve", "The player eve was not corrected: This user is blocked from the leaderboard."),
    ],
)
def test_what_is_refused_is_said(name: str, user: str, said: str, moderator: Client) -> None:
    score(ann=20, eve=99)
    services.block(user_id="eve", actor="test", reason="cheats")

    answer = act(moderator, name, user, total=5)

    assert answer.status_code == 302
    assert told(answer) == [said]
    assert ScoreEvent.objects.count() == 3
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("users", [[], ["nobody"], ["nul\0"], ["ann", "ben"]])
def test_a_correction_is_of_one_user_who_has_a_score(users: list[str], moderator: Client) -> None:
    score(ann=20, ben=30)

    assert act(moderator, "correct", *users, total=5).status_code == 404
    assert moderator.get(f"{USERS}correct/", {"user": users}).status_code == 404
    assert ScoreEvent.objects.count() == 2


# Several


def select(client: Client, action: str, *users: str, **fields: Any) -> Any:
    return client.post(f"{USERS}?band=1-99", {"action": action, "_selected_action": users, "index": 0, **fields})


def test_a_user_whose_id_an_earlier_version_took_is_blocked(moderator: Client) -> None:
    """It is no user id any more: a browser cannot even ask for its page."""
    score(**{"..": 20})

    page = select(moderator, "block_selected", "..")
    moderator.post(page.context_data["action"], {"user": [".."], "reason": "bots"})

    assert Block.objects.get().user_id == ".."


def test_several_are_blocked_at_once(moderator: Client) -> None:
    score(ann=20, ben=30, cem=40)

    page = select(moderator, "block_selected", "ann", "cem")

    assert page.status_code == 200
    assert not Block.objects.exists()
    answer: Any = moderator.post(
        page.context_data["action"], {"user": [user.user_id for user in page.context_data["users"]], "reason": "bots"}
    )
    assert answer.url == f"{USERS}?band=1-99"
    assert set(Block.objects.values_list("user_id", flat=True)) == {"ann", "cem"}
    assert told(answer) == ["2 users were blocked."]
    assert LogEntry.objects.count() == 2


def test_of_several_each_is_told_apart(moderator: Client) -> None:
    score(ann=20, ben=30, eve=99)
    services.block(user_id="eve", actor="test", reason="cheats")

    answer = act(moderator, "block", "ann", "ben", "eve")

    assert told(answer) == ["The player eve was not blocked: This user is already blocked.", "2 users were blocked."]
    assert Block.objects.count() == 3


def test_too_many_at_once_are_refused(moderator: Client) -> None:
    score_all((f"user{number}", 10) for number in range(MAX_AT_ONCE + 1))

    answer = select(moderator, "block_selected", "user1", select_across=1)

    assert told(answer) == [f"Select at most {MAX_AT_ONCE} users."]
    assert act(moderator, "block", *(f"user{number}" for number in range(MAX_AT_ONCE + 1))).status_code == 404
    assert not Block.objects.exists()


def test_a_database_that_does_not_confirm_is_told_and_not_asked_again(moderator: Client) -> None:
    score(ann=20, ben=30)

    with psycopg.connect(**psycopg_parameters()) as other:
        other.execute("SELECT FROM leaderboards FOR UPDATE")  # as a writer that hangs would
        answer = act(moderator, "block", "ann", "ben")

    first, second = told(answer)
    assert "did not confirm in time that ben was blocked" in first
    assert second == "The player ann was not blocked: the database does not answer right now."
    assert not LogEntry.objects.exists()


# Who may


def statuses(client: Client) -> list[int]:
    """Of looking at users and events, of asking for each act, and of looking at an account."""
    account = User.objects.get(username="root").pk
    pages = [
        USERS,
        f"{USERS}ann/change/",
        "/admin/scores/scoreevent/",
        *(f"{USERS}{name}/?user=ann" for name in ("correct", "block", "unblock")),
        f"/admin/auth/user/{account}/change/",
    ]
    return [client.get(page).status_code for page in pages]


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("Viewers", [200, 200, 200, 403, 403, 403, 403]),
        ("Moderators", [200, 200, 200, 200, 200, 200, 403]),
        ("Admins", [200, 200, 200, 200, 200, 200, 200]),
    ],
)
def test_each_role_may_do_what_its_name_says(role: str, expected: list[int], copy: Redis) -> None:
    score(ann=20)
    User.objects.create_superuser("root")
    client = logged_in(member_of(role, "mia"))

    assert statuses(client) == expected
    assert act(client, "block", "ann").status_code == (403 if role == "Viewers" else 302)


def test_viewers_are_offered_no_acts(copy: Redis) -> None:
    score(ann=20)
    client = logged_in(member_of("Viewers", "vic"))

    pages = client.get(USERS).content.decode() + client.get(f"{USERS}ann/change/").content.decode()

    assert not [word for word in ("block_selected", "?user=ann", "export/") if word in pages]
    answer = select(client, "block_selected", "ann")
    assert "reason" not in answer.content.decode()


def test_an_act_without_a_look_at_the_users_is_not_permitted(copy: Redis) -> None:
    score(ann=20)
    user = User.objects.create_user("mia", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="block_userscore"))

    assert act(logged_in(user), "block", "ann").status_code == 403


def test_the_groups_have_the_permissions_that_django_makes(board: None) -> None:
    """The migration makes them first, on an empty database, and must not call them otherwise."""
    permitted = Permission.objects.filter(group__isnull=False).distinct().select_related("content_type")
    for permission in permitted:
        model = permission.content_type.model_class()
        assert model is not None
        own = dict(model._meta.permissions)
        usual = f"Can {permission.codename.partition('_')[0]} {model._meta.verbose_name}"
        assert permission.name == own.get(permission.codename, usual)
    assert list(Group.objects.order_by("pk").values_list("name", flat=True)) == ["Viewers", "Moderators", "Admins"]


def test_an_admin_makes_nobody_a_superuser(copy: Redis) -> None:
    admin = member_of("Admins", "ada")
    root = User.objects.create_superuser("root", password="old")
    client = logged_in(admin)

    client.post(f"/admin/auth/user/{admin.pk}/change/", form_of(admin, is_superuser="on", first_name="Ada"))
    client.post(
        f"/admin/auth/user/{root.pk}/password/", {"password1": "n3w-secret-word", "password2": "n3w-secret-word"}
    )
    client.post(f"/admin/auth/user/{root.pk}/delete/", {"post": "yes"})

    admin.refresh_from_db()
    root.refresh_from_db()
    assert (admin.first_name, admin.is_superuser) == ("Ada", False)
    assert root.check_password("old")


def form_of(user: User, **changes: str) -> dict[str, Any]:
    return {
        "username": user.username,
        "is_active": "on",
        "is_staff": "on",
        "groups": [group.pk for group in user.groups.all()],
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
    } | changes


# The world


def test_a_block_reaches_an_open_socket_at_once(server: Server, token_for: TokenFor) -> None:
    client = logged_in(member_of("Moderators", "mia"))
    cookies = {"sessionid": client.cookies["sessionid"].value}
    with httpx.Client(base_url=server.url, cookies=cookies, timeout=30) as browser:
        for user_id, points in (("eve", 99), ("ann", 20)):
            browser.post(
                "/api/v1/scores/increment",
                json={"points": points},
                headers={"Authorization": f"Bearer {token_for(user_id)}"},
            ).raise_for_status()
        with connect(server.ws_url) as socket:
            while len(frame := json.loads(socket.recv(timeout=30))["leaderboard"]) < 2:
                pass
            assert [entry["userId"] for entry in frame] == ["eve", "ann"]

            page = browser.get(f"{USERS}block/", params={"user": "eve"})
            answer = browser.post(
                f"{USERS}block/",
                data={"user": "eve", "reason": "bots", "csrfmiddlewaretoken": page.cookies["csrftoken"]},
            )

            assert answer.status_code == 302
            while (frame := json.loads(socket.recv(timeout=30)))["seq"] < 3:
                pass  # the one before again, with an age: the server stood still
            assert frame["leaderboard"] == [{"userId": "ann", "score": 20}]
