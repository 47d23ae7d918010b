"""How deep a JSON text may be, however it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scores import strict_json
from scores.exceptions import Malformed

LEAVES: st.SearchStrategy[Any] = st.none() | st.integers(-9, 9) | st.text('[]{}"\\ä', max_size=4)
NESTED = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\', max_size=3), inner, max_size=3),
)


def depth(value: Any) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0


def wrapped(value: Any, kinds: str) -> Any:
    for kind in kinds:
        value = [value] if kind == "[" else {"a": value}
    return value


@given(NESTED, st.text("[{", max_size=20))
def test_a_value_is_as_deep_as_it_is(value: Any, kinds: str) -> None:
    value = wrapped(value, kinds)
    text = json.dumps([*([{}] * 20), value]).encode()  # with so many brackets that it is looked at

    if depth(value) < strict_json.MAX_DEPTH:
        assert strict_json.loads(text)[-1] == value
    else:
        with pytest.raises(Malformed, match="deeper"):
            strict_json.loads(text)


@given(st.text('[]{}",:1 \\', max_size=80).map(lambda text: "[" * 20 + text) | st.text('[]{}",:1\\', max_size=80))
def test_what_is_no_json_is_refused_with_a_code(text: str) -> None:
    try:
        value = strict_json.loads(text.encode())
    except Malformed as error:
        assert error.code in {"json_too_deep", "invalid_json", "trailing_text", "duplicate_key"}  # noqa: PT017
    else:
        assert depth(value) <= strict_json.MAX_DEPTH


@pytest.mark.parametrize("kinds", ["[" * 16, "{" * 16, "[{" * 8])
def test_many_flat_values_are_beside_a_deep_one(kinds: str) -> None:
    flat = [{"a": [1]}] * 50

    assert strict_json.loads(json.dumps([*flat, wrapped(1, kinds[:-1])]).encode())
    with pytest.raises(Malformed, match="deeper"):
        strict_json.loads(json.dumps([*flat, wrapped(1, kinds)]).encode())
