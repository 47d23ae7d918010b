"""What the readers of environment variables make of what people write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from leaderboard_site.conf.env import Reader


def test_a_value_loses_the_blanks_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR", " red\n")

    assert Reader().text("COLOUR") == "red"


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_value_is_none(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR", value)

    assert Reader().text("COLOUR", "blue") == "blue"


def test_a_value_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR", "$HOME\\$")

    assert Reader().text("COLOUR") == "$HOME\\$"


def test_a_secret_is_read_from_the_file_named_beside_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k" * 32 + "\n")
    monkeypatch.setenv("FILED_KEY_FILE", str(tmp_path / "key"))

    assert Reader().secret("FILED_KEY", least=32, hint="") == "k" * 32


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOST_KEY_FILE", "/nowhere/key")
    read = Reader()

    read.secret("LOST_KEY", least=32, hint="")

    assert len(read.problems) == 1
    assert "LOST_KEY_FILE" in read.problems[0]
    assert "/nowhere/key" in read.problems[0]


@pytest.mark.parametrize(
    "value",
    [
        "https://ann:swordfish@example.org/",
        "http://ann:swordfish@[::1",
        "https://ann:sword,fish@example.org",
        "swordfish@example.org:99999/",
        "https://example.org/keys?key=swordfish",
    ],
)
def test_no_problem_shows_a_password(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", value)
    monkeypatch.setenv("LOST_FILE", value)
    read = Reader()

    read.public_url("PLACE", "")
    read.origins("PLACE")
    read.hosts("PLACE")
    read.networks("PLACE")
    read.integer("PLACE", 1, least=1, most=2)
    read.choice("PLACE", "on", ("on", "off"))
    read.rate("PLACE", "1/second")
    read.cap("PLACE", 1)
    read.text("LOST")

    assert len(read.problems) >= 8
    assert not re.search("sword|fish", "".join(read.problems))


def test_a_short_secret_is_a_problem_that_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "swordfish")
    read = Reader()

    read.secret("KEY", least=32, hint="Make one.")

    assert read.problems == ["KEY has 9 bytes; it needs at least 32. Make one."]


@pytest.mark.parametrize("value", ["0", "11", "-1", "1.0", "1_0", "٣", "ten"])
def test_a_number_is_written_in_digits_and_within_its_bounds(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", value)
    read = Reader()

    assert read.integer("WORKERS", 4, least=1, most=10) == 4
    assert read.problems == [f"WORKERS={value!r}: expected a whole number from 1 to 10."]


def test_a_choice_is_one_of_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS", "yes")
    read = Reader()

    assert read.choice("HTTPS", "on", ("on", "off")) == "on"
    assert read.problems == ["HTTPS='yes': expected one of on, off."]


def test_names_are_parted_by_commas_and_blanks_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTS", "a.example, b.example,,")

    assert Reader().names("HOSTS") == ["a.example", "b.example"]


def test_every_problem_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "many")
    read = Reader()
    read.text("COLOUR", hint="Red will do.")
    read.integer("WORKERS", 1, least=1, most=10)

    with pytest.raises(ImproperlyConfigured) as error:
        read.finish()

    assert "COLOUR is not set. Red will do." in str(error.value)
    assert "WORKERS='many'" in str(error.value)


NOT_RATES = ["60", "0/minute", "sixty/minute", "60/minute;1/second", "60/fortnight"]
NOT_RATES += ["5/0seconds", "5/0 second", "5/00minutes", "5 per 0 hour", "5/-1s", "5/-1 seconds", "-5/minute"]


@pytest.mark.parametrize("value", NOT_RATES)
def test_a_rate_is_a_number_in_a_time(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE", value)
    read = Reader()

    read.rate("RATE", "1/second")

    assert read.problems == [f"RATE={value!r}: expected a rate such as 60/minute or 10/5 seconds, or off."]


@pytest.mark.parametrize(
    ("value", "meant"),
    [("60/minute", (60, 60)), ("10/5 seconds", (10, 5)), ("7 per hour", (7, 3600)), ("5/100minutes", (5, 6000))],
)
def test_a_rate_is_so_many_in_so_many_seconds(
    value: str, meant: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATE", value)

    rate = Reader().rate("RATE", "1/second")

    assert rate is not None
    assert (rate.amount, rate.get_expiry()) == meant


def test_limits_that_are_off_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE", "off")
    monkeypatch.setenv("CAP", "off")

    assert Reader().rate("RATE", "1/second") is None
    assert Reader().cap("CAP", 5) is None
    assert Reader().rate("UNSET", "1/second", off=True) is None
    assert Reader().cap("UNSET", 5, off=True) is None
    assert Reader().cap("UNSET", 5) == 5


@pytest.mark.parametrize("value", ["0", "-1", "many", "1000001"])
def test_a_cap_is_a_number_from_one(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAP", value)
    read = Reader()

    read.cap("CAP", 5)

    assert read.problems == [f"CAP={value!r}: expected a whole number from 1 to 1000000, or off."]
