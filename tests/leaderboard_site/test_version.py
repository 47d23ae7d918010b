"""The version stands in one place, and a server, its metrics and its admin say it."""

from __future__ import annotations

import platform
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from django.contrib.auth.models import User
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from leaderboard_site import version
from leaderboard_site.version import VERSION
from tests.scores.admin.test_admin import logged_in
from tools.servers import ROOT, Server

TOKEN = "a token of some length"


@pytest.fixture
def two_workers(server: Server, tmp_path: Path) -> Iterator[Server]:
    env = {"DATABASE_URL": server.env["DATABASE_URL"], "WORKERS": "2", "METRICS_TOKEN": TOKEN}
    started = Server(log=tmp_path / "log", env=env).start()
    yield started
    started.stop()


def test_the_package_reads_its_version_where_the_service_does() -> None:
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert described["project"]["dynamic"] == ["version"]
    assert described["tool"]["setuptools"]["dynamic"]["version"] == {"attr": f"{version.__name__}.VERSION"}


def test_what_is_under_way_is_newer_than_the_last_release() -> None:
    """A version ends in `.dev0` until it is released, and then is the newest one of the changelog."""
    unreleased, released = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[:2]
    number = re.fullmatch(r"(\d+\.\d+\.\d+)(\.dev0)?", VERSION)

    assert unreleased == "Unreleased"
    assert number
    if number[2]:
        assert [int(part) for part in number[1].split(".")] > [int(part) for part in released.split(".")]
    else:
        assert released == VERSION


def test_a_living_server_says_its_version(server: Server) -> None:
    answer = httpx.get(f"{server.url}/healthz/live")

    assert answer.json() == {"status": "ok", "version": VERSION}


def test_the_admin_says_the_version_at_the_end_of_each_page(board: None) -> None:
    client = logged_in(User.objects.create_superuser("root"))

    for address in ("/admin/", "/admin/scores/userscore/", "/admin/status/"):
        (footer,) = re.findall(r'<footer id="footer">(.*?)</footer>', client.get(address).content.decode(), re.DOTALL)
        assert footer == f"Leaderboard {VERSION}"


def test_the_page_of_the_login_does_not_say_the_version(board: None) -> None:
    assert VERSION not in Client().get("/admin/login/").content.decode()


@pytest.mark.uvicorn("is one process")
def test_the_metrics_of_several_workers_say_one_version(two_workers: Server) -> None:
    text = httpx.get(f"{two_workers.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text

    (family,) = [found for found in text_string_to_metric_families(text) if found.name == "leaderboard_build_info"]
    (sample,) = family.samples
    assert (family.type, sample.value) == ("gauge", 1)
    assert sample.labels == {"version": VERSION, "python": platform.python_version()}
