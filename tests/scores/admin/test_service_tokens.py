"""Service tokens in the admin: issued and shown once, rotated, revoked, and their services blocked; and who may."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Group, User
from django.contrib.messages import get_messages
from django.test import Client
from redis import Redis

from scores.access.authentication import verify_token
from scores.models import Block, ScoreEvent, ServiceToken, UserScore

from .test_admin import cells, logged_in, value

TOKENS = "/admin/scores/servicetoken/"
FORM = {"name": "arena", "scopes": ["scores:write:any", "events:void"], "days": 90}


@pytest.fixture
def admin(copy: Redis) -> Client:
    return client_of("Admins")


def client_of(role: str) -> Client:
    user = User.objects.create_user(f"one of {role}", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return logged_in(user)


def page_of(token: ServiceToken, view: str) -> str:
    """The address of one token, as the admin's own links have it: some prefixes look like what it quotes."""
    return f"{TOKENS}{quote(token.prefix)}/{view}/"


def secrets_in(answer: Any) -> list[str]:
    return [html.unescape(text) for text in re.findall(r'<code class="secret">(.*?)</code>', answer.content.decode())]


def issued(client: Client, **changed: Any) -> str:
    (secret,) = secrets_in(client.post(f"{TOKENS}add/", FORM | changed))
    return secret


def told(answer: Any) -> list[str]:
    return [str(message) for message in get_messages(answer.wsgi_request)]


def test_a_token_is_issued_and_shown_once(admin: Client) -> None:
    answer = admin.post(f"{TOKENS}add/", FORM)

    (secret,) = secrets_in(answer)
    principal = verify_token(secret)
    assert (principal.user_id, sorted(principal.scopes)) == ("service:arena", ["events:void", "scores:write:any"])
    assert "no-store" in answer.headers["Cache-Control"]
    row = ServiceToken.objects.get()
    assert (row.prefix, row.created_by) == (principal.token, "one of Admins")
    for page in (
        admin.get(TOKENS),
        admin.get(page_of(row, "change")),
        admin.get(page_of(row, "history")),
    ):
        assert page.status_code == 200
        assert secret not in page.content.decode()
        assert row.prefix in page.content.decode()


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"name": "two words"}, {"name": "arena\n"}, {"scopes": []}, {"scopes": ["root"]}, {"days": 0}],
    ids=str,
)
def test_what_makes_no_token_is_told(wrong: dict[str, Any], admin: Client) -> None:
    answer = admin.post(f"{TOKENS}add/", FORM | wrong)

    assert (answer.status_code, secrets_in(answer)) == (200, [])
    assert "errorlist" in answer.content.decode()
    assert not ServiceToken.objects.exists()


def test_the_list_tells_the_states(admin: Client) -> None:
    for name in ("arena", "hall", "gate", "wall"):
        issued(admin, name=name)
    tokens = {token.name: token for token in ServiceToken.objects.all()}
    act(admin, "revoke", tokens["hall"])
    ServiceToken.objects.filter(name="gate").update(expires_at=tokens["gate"].created_at)
    admin.post(f"{TOKENS}block/", {"service": "wall", "reason": "leaked"})

    page = admin.get(TOKENS)

    states = dict(zip(cells(page, "name"), cells(page, "state"), strict=True))
    assert states == {"arena": "Active", "hall": "Revoked", "gate": "Expired", "wall": "Service blocked"}
    assert value(admin.get(page_of(tokens["hall"], "change")), "state") == "Revoked"


def act(client: Client, name: str, *tokens: ServiceToken, **fields: Any) -> Any:
    return client.post(f"{TOKENS}{name}/", {"token": [token.prefix for token in tokens], **fields})


def select(client: Client, action: str, *tokens: ServiceToken) -> Any:
    return client.post(TOKENS, {"action": action, "_selected_action": [token.prefix for token in tokens]})


def test_tokens_are_revoked_after_a_confirmation(admin: Client) -> None:
    issued(admin)
    issued(admin)
    first, second = ServiceToken.objects.all()

    asked = select(admin, "revoke_selected", first)
    assert (asked.status_code, ServiceToken.objects.filter(revoked_at=None).count()) == (200, 2)
    assert f'name="token" value="{first.prefix}"' in asked.content.decode()
    answer = act(admin, "revoke", first)

    assert told(answer) == [f"The token {first} was revoked."]
    assert list(ServiceToken.objects.filter(revoked_at=None)) == [second]
    assert LogEntry.objects.filter(object_id=first.prefix, change_message="Revoked").exists()
    assert told(act(admin, "revoke", first))[-1:] == [f"There is no active token '{first.prefix}'."]


@pytest.mark.parametrize(("grace", "state"), [(0, "Revoked"), (60, "Active")])
def test_tokens_are_rotated_after_a_confirmation(grace: int, state: str, admin: Client) -> None:
    secret = issued(admin)
    (old,) = ServiceToken.objects.all()
    assert f'name="token" value="{old.prefix}"' in select(admin, "rotate_selected", old).content.decode()

    answer = act(admin, "rotate", old, days=30, grace_minutes=grace)

    (replacement,) = secrets_in(answer)
    assert replacement != secret
    new = ServiceToken.objects.exclude(prefix=old.prefix).get()
    assert (new.name, new.scopes, verify_token(replacement).token) == (old.name, old.scopes, new.prefix)
    assert value(admin.get(page_of(old, "change")), "state") == state


@pytest.mark.parametrize("wrong", [{"days": 0}, {"grace_minutes": -1}, {"grace_minutes": 10**9}], ids=str)
def test_a_rotation_that_makes_no_sense_is_asked_again(wrong: dict[str, Any], admin: Client) -> None:
    issued(admin)

    answer = act(admin, "rotate", *ServiceToken.objects.all(), **({"days": 30, "grace_minutes": 0} | wrong))

    assert (answer.status_code, secrets_in(answer)) == (200, [])
    assert ServiceToken.objects.get().revoked_at is None


# Services


@pytest.mark.parametrize("name", ["arena", "service:arena"])
def test_a_moderator_blocks_a_service_and_admits_it_again(name: str, copy: Redis) -> None:
    """Without a token in the list as well: it may have some from before there was one."""
    moderator = client_of("Moderators")
    assert "Block a service" in moderator.get(TOKENS).content.decode()
    assert moderator.get(f"{TOKENS}block/?service={name}").status_code == 200

    blocked = moderator.post(f"{TOKENS}block/", {"service": name, "reason": "leaked"})
    assert told(blocked) == ["The service arena was blocked in event 1."]
    assert Block.objects.get().user_id == "service:arena"
    again = moderator.post(f"{TOKENS}block/", {"service": name, "reason": "leaked"})
    assert told(again)[-1] == "The service arena was not blocked: This user is already blocked."
    moderator.post(f"{TOKENS}unblock/", {"service": name, "reason": "rotated"})

    events = ScoreEvent.objects.order_by("seq").values_list("user_id", "kind", "actor", "reason")
    assert list(events) == [
        ("service:arena", "block", "one of Moderators", "leaked"),
        ("service:arena", "unblock", "one of Moderators", "rotated"),
    ]
    assert not Block.objects.exists()
    assert not UserScore.objects.exists()
    assert cells(moderator.get("/admin/scores/scoreevent/"), "player") == ["service:arena"] * 2


@pytest.mark.parametrize("service", ["", "a\0b", "x" * 248], ids=["none", "NUL", "too long"])
def test_what_names_no_service_is_asked_again(service: str, copy: Redis) -> None:
    answer = client_of("Moderators").post(f"{TOKENS}block/", {"service": service, "reason": "leaked"})

    assert (answer.status_code, "errorlist" in answer.content.decode()) == (200, True)
    assert not Block.objects.exists()


# Who may


@pytest.mark.parametrize("role", ["Viewers", "Moderators"])
def test_others_see_tokens_and_neither_issue_nor_end_them(role: str, admin: Client) -> None:
    issued(admin)
    (token,) = ServiceToken.objects.all()
    other = client_of(role)

    assert cells(other.get(TOKENS), "prefix") == [token.prefix]
    refused = [other.get(f"{TOKENS}add/"), other.post(f"{TOKENS}add/", FORM)]
    refused += [act(other, name, token, days=30, grace_minutes=0) for name in ("rotate", "revoke")]
    assert {answer.status_code for answer in refused} == {403}
    for action in ("rotate_selected", "revoke_selected"):
        select(other, action, token)
    assert ServiceToken.objects.get().revoked_at is None
    may_block = other.post(f"{TOKENS}block/", {"service": "arena", "reason": "leaked"}).status_code
    assert may_block == (302 if role == "Moderators" else 403)


def test_nobody_edits_or_deletes_a_token(copy: Redis) -> None:
    root = logged_in(User.objects.create_superuser("root"))
    issued(root)
    (token,) = ServiceToken.objects.all()

    root.post(page_of(token, "change"), {"name": "hall"})
    root.post(page_of(token, "delete"), {"post": "yes"})

    assert ServiceToken.objects.get().name == "arena"


@pytest.mark.parametrize("page", ["a\0b/change/", "unknown/change/", "rotate/", "revoke/"])
def test_what_is_not_there_is_no_error(page: str, admin: Client) -> None:
    assert admin.get(f"{TOKENS}{page}").status_code in (302, 404)
