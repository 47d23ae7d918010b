"""What people write as addresses: taken as meant, or refused at the start with a sentence that names it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from leaderboard_site.conf import addresses
from leaderboard_site.conf.env import Reader, shown

NOT_NETWORKS = [
    "nginx",
    "localhost",
    "10.0.0.0/33",
    "http://10.0.0.1",
    '"a b"',
    "10.0.0.1:8080",
    "10.0.0",
    "010.0.0.1",
    "::1/129",
    "[::1]",
    "10.0.0.1/8",
    "10.0.0.0/",
    "*",
    "0.0.0.0/0",
    "::/0",
    "0.0.0.0/1",
    "128.0.0.0/7",
    "2000::/3",
    "2001::/15",
    "::ffff:0:0/96",
    "::ffff:0.0.0.0/103",
]
NOT_HOSTS = [
    "host:8443",
    "https://host",
    "host/path",
    '"a b"',
    "a b",
    "user@host",
    "::1",
    "[::1]:80",
    "[::g]",
    "scores_example",
    "a..b",
    "-a.example.org",
    "*.example.org",
    "zoë.example.org",
    ".",
]
NOT_ORIGINS = [
    "game.example.org",
    "https://game.example.org/",
    "https://game.example.org/play",
    "https://game.example.org?",
    "https://game.example.org#",
    "https://ann@game.example.org",
    "https://game.example.org:",
    "https://game.example.org:0",
    "https://game.example.org:99999",
    "https://*.example.org",
    "https://",
    "https://[::1",
    "wss://game.example.org",
    "null",
    "*",
]
NOT_PUBLIC = [
    "scores.example.org",
    "/leaderboard",
    "ftp://example.org",
    "https://example.org?x=1",
    "https://example.org/#top",
    "https://ann:pw@example.org/",
    "https://example.org/a b",
    "https://example.org/a//b",
    "https://example.org/../b",
    "https://example.org/%41",
    "https://example.org/api",
    "https://example.org/static/leaderboard",
    "https://exa mple.org",
]


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        *((Reader.networks, text) for text in NOT_NETWORKS),
        *((Reader.hosts, text) for text in NOT_HOSTS),
        *((Reader.origins, text) for text in NOT_ORIGINS),
    ],
)
def test_a_wrong_one_among_right_ones_is_named(
    read: Callable[[Reader, str], list[str]], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {Reader.networks: "10.0.0.1", Reader.hosts: "example.org", Reader.origins: "https://example.org"}[read]  # type: ignore[index]
    monkeypatch.setenv("NAMES", f"{right}, {wrong}")
    reader = Reader()

    assert read(reader, "NAMES") == [right]
    (problem,) = reader.problems
    assert problem.startswith(f"NAMES: {shown(wrong)} ")
    assert problem.endswith(".")


@pytest.mark.parametrize("wrong", NOT_PUBLIC)
def test_a_wrong_public_url_is_named(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", wrong)
    reader = Reader()

    assert reader.public_url("PLACE", "") is None
    (problem,) = reader.problems
    assert problem.startswith(f"PLACE={shown(wrong)}: ")


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "10.0.0.0/8", "172.16.0.0/12", "::1", "fd00::/8", "fc00::/7", "2001:db8::/32", "10.0.0.1/32"]
)
def test_addresses_and_networks_are_proxies(text: str) -> None:
    assert addresses.network(text) == text


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("::FFFF:a00:1", "10.0.0.1"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1/128", "10.0.0.1/32"),
    ],
)
def test_a_proxy_with_an_ipv4_address_is_known_by_it(text: str, meant: str) -> None:
    assert addresses.network(text) == meant


def test_a_network_with_an_address_in_it_is_told_as_the_network() -> None:
    with pytest.raises(ValueError, match=r"write 10\.0\.0\.0/8"):
        addresses.network("10.0.0.1/8")


@pytest.mark.parametrize(
    "text",
    [
        "scores.example.org",
        "Scores.Example.org",
        ".example.org",
        "localhost",
        "127.0.0.1",
        "[::1]",
        "*",
        "a-b.xn--p1ai",
    ],
)
def test_host_names_are_hosts(text: str) -> None:
    assert addresses.host(text) == text


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("https://game.example.org", "https://game.example.org"),
        ("HTTPS://Game.Example.org:443", "https://game.example.org"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_what_a_browser_sends(text: str, meant: str) -> None:
    assert addresses.origin(text) == meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("https://scores.example.org", ("https://scores.example.org", "")),
        ("https://Example.org:8443/leaderboard/", ("https://example.org:8443", "/leaderboard")),
        ("http://example.org:80/games/apis", ("http://example.org", "/games/apis")),
    ],
)
def test_a_public_url_is_an_origin_and_a_path(text: str, meant: tuple[str, str]) -> None:
    assert addresses.public_url(text) == meant
