"""The picture of the packages is the one that the imports give."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from tools.architecture.__main__ import FILE, picture
from tools.architecture.boxes import BOXES, Box
from tools.architecture.imports import box_of, without_shortcuts
from tools.architecture.picture import drawn


def test_the_file_is_what_the_command_draws() -> None:
    assert FILE.read_text() == picture(), "make architecture"


def test_the_picture_has_a_title_and_says_every_arrow_in_words() -> None:
    root = ElementTree.parse(FILE).getroot()
    of_svg = "{http://www.w3.org/2000/svg}"
    title, description = root.find(f"{of_svg}title"), root.find(f"{of_svg}desc")
    arrows = [path for path in root.iter(f"{of_svg}path") if path.get("class") == "arrow"]

    assert root.get("role") == "img"
    assert title is not None
    assert title.text
    assert description is not None
    assert description.text
    assert description.text.count(" imports ") == len(arrows) > 20


def test_no_two_boxes_share_a_place() -> None:
    places = [(box.row, box.column + more) for box in BOXES for more in range(box.columns)]

    assert len(places) == len(set(places))


def test_an_arrow_that_a_longer_way_implies_is_left_out() -> None:
    arrows = {("api", "services"), ("services", "log"), ("api", "log"), ("log", "stores"), ("api", "stores")}

    assert without_shortcuts(arrows) == {("api", "services"), ("services", "log"), ("log", "stores")}


def test_a_package_without_a_place_is_named() -> None:
    with pytest.raises(LookupError, match=r"^scores\.seasons\.catalogue has no place"):
        box_of("scores.seasons.catalogue")


def test_what_is_not_ours_is_not_drawn() -> None:
    assert box_of("django") is None
    assert box_of("scores") is None
    assert box_of("scores.apps") is None
    assert box_of("redis") == "Redis"


@pytest.mark.parametrize("row", [0, 1])
def test_an_arrow_that_does_not_point_down_is_an_error(row: int) -> None:
    boxes = (Box("log", "", "scores", row, 0, ("log",)), Box("api", "", "scores", 0, 1, ("api",)))

    with pytest.raises(ValueError, match="log imports api"):
        drawn(boxes, {("log", "api")})
