"""The admin under its policy: `open_page` fails a test whose page violates it."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import Group, User
from django.db import transaction
from playwright.sync_api import Page, expect

from scores import services
from scores.boards import definitions
from scores.boards.documents import parse
from scores.boards.rebuilding import rebuild
from scores.engagement.fold import EngagementFold
from scores.log.head import log
from scores.log.ledger import Change, Kind
from scores.log.writer import writer
from scores.models import Board
from tests.scores.conftest import by_another_thread
from tools.servers import Server

from .conftest import OpenPage

pytestmark = pytest.mark.slow


@pytest.fixture
def admin(server: Server, open_page: OpenPage) -> Page:
    return signed_in(open_page(f"{server.url}/admin/"))


def signed_in(page: Page) -> Page:
    """A page of a superuser, who signed in by the form."""
    User.objects.create_superuser("root", password="notes on the engine")
    page.get_by_label("Username").fill("root")
    page.get_by_label("Password").fill("notes on the engine")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    assert urlsplit(page.url).path == "/admin/"
    return page


def test_no_page_of_the_admin_violates_its_policy(server: Server, admin: Page) -> None:
    for user_id, total in (("ann", 30), ("bob", 20)):
        services.correct(user_id=user_id, total=total, actor="test", reason="start")
    board = definitions.create(parse({"name": "weekly", "fold": "sum", "period": "weekly"}))
    user, group = User.objects.get(), Group.objects.get(name="Moderators")

    for path in (
        "scores/userscore/",
        "scores/userscore/ann/change/",
        "scores/userscore/block/?user=ann",
        "scores/scoreevent/",
        "scores/action/add/",
        "scores/board/",
        "scores/board/add/",
        f"scores/board/{board.pk}/change/",
        f"scores/board/{board.pk}/delete/",
        "status/",
        "engagement/",
        "auth/user/?is_staff__exact=1",
        f"auth/user/{user.pk}/change/",
        "auth/user/add/",
        f"auth/group/{group.pk}/change/",
        "password_change/",
    ):
        answer = admin.goto(f"{server.url}/admin/{path}", wait_until="load")
        assert answer is not None
        assert answer.status == 200, path
        assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_pages_of_boards_and_of_engagement_are_accessible(server: Server, open_page: OpenPage) -> None:
    admin = signed_in(open_page(f"{server.url}/admin/", bypass_csp=True))  # axe sets styles of its own
    board = definitions.create(parse({"name": "weekly", "fold": "sum", "period": "weekly", "title": "This week"}))

    by_another_thread(lambda: writer.record([Change(Kind.INCREMENT, "ann", 5), Change(Kind.INCREMENT, "bob", 7)]))
    while EngagementFold(log).behind():
        EngagementFold(log).fold()

    boards = [f"scores/board/{path}" for path in ("", "add/", f"{board.pk}/change/", f"{board.pk}/archive/")]
    for path in (*boards, "engagement/"):
        admin.goto(f"{server.url}/admin/{path}", wait_until="load")
        admin.evaluate("document.querySelector('.engagement details')?.setAttribute('open', '')")
        found = Axe().run(admin, context="#content", options={"preload": False})  # of style sheets
        assert found.violations_count == 0, found.generate_report()


def test_the_page_of_a_board_follows_how_it_is_built(server: Server, admin: Page) -> None:
    writer.batcher.submit_and_wait(Change(Kind.INCREMENT, "ann", 5))
    board = definitions.create(parse({"name": "ever", "fold": "sum"}))
    with transaction.atomic():
        Board.objects.select_for_update().get(pk=board.pk)  # whoever builds it waits at the end for this transaction
        by_another_thread(lambda: rebuild(board.pk))
        admin.goto(f"{server.url}/admin/scores/board/{board.pk}/change/")
        expect(admin.get_by_role("progressbar", name="Building")).to_be_visible(timeout=30_000)
        admin.get_by_label("Title").fill("All time")

    expect(admin.locator("#overview tr.entry")).to_contain_text("ann", timeout=30_000)
    expect(admin.get_by_text("1 player, as of event 1.")).to_be_visible()
    expect(admin.get_by_label("Title")).to_have_value("All time")


def test_the_scripts_of_the_admin_work_under_its_policy(server: Server, admin: Page) -> None:
    group = Group.objects.get(name="Moderators")
    admin.goto(f"{server.url}/admin/auth/group/{group.pk}/change/")

    admin.get_by_role("button", name="Choose all permissions").or_(
        admin.locator("#id_permissions_add_all")
    ).first.click()

    expect(admin.locator("#id_permissions_from option")).to_have_count(0)
    with admin.expect_popup() as opened:
        admin.goto(f"{server.url}/admin/auth/user/{User.objects.get().pk}/change/")
        admin.locator("#add_id_groups").click()
    try:
        opened.value.get_by_label("Name:").fill("Guests")
        opened.value.get_by_role("button", name="Save", exact=True).click()
        expect(admin.locator("#id_groups_to, #id_groups_from").get_by_text("Guests")).to_be_attached()
    finally:
        Group.objects.filter(name="Guests").delete()
