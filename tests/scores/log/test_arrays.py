"""Arrays that the writer writes are the arrays that PostgreSQL reads."""

from __future__ import annotations

import pytest
from django.db import DataError, connection
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scores.log.arrays import booleans, numbers, texts

pytestmark = [pytest.mark.usefixtures("board"), pytest.mark.writes_nothing]
BIGINT = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
as_they_come = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)


def read(array: str, type_: str) -> list[object]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT %s::{type_}[]", [array])
        return list(cursor.fetchone()[0])


@as_they_come
@given(st.lists(TEXT | st.none()))
@example(["", "NULL", "null", None, '"', "\\", '\\"', "{", "}", ",", " a ", "a\nb", "ä😀"])
@example([])
def test_texts(items: list[str | None]) -> None:
    assert read(texts(items), "text") == items


@as_they_come
@given(st.lists(BIGINT | st.none()))
def test_numbers(items: list[int | None]) -> None:
    assert read(numbers(items), "bigint") == items


@as_they_come
@given(st.lists(st.booleans() | st.none()))
def test_booleans(items: list[bool | None]) -> None:
    assert read(booleans(items), "bool") == items


def test_what_postgresql_cannot_hold_is_refused_before_it_is_sent() -> None:
    with pytest.raises(DataError, match="NUL"):
        read(texts(["a\0b"]), "text")
