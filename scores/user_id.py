"""User ids: which strings the stores, the frames and the page can all carry."""

from __future__ import annotations

import unicodedata
from typing import TypeGuard

MAX_LENGTH = 255  # characters


def is_user_id(value: object) -> TypeGuard[str]:
    """Whether `value` is 1 to 255 characters in normal form C, without control characters or surrogates.

    Without NFC, two ids could look the same and have different ranks. PostgreSQL refuses NUL, and UTF-8 has no
    surrogates.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_LENGTH:
        return False
    if value.isascii():
        return value.isprintable()
    return unicodedata.is_normalized("NFC", value) and not any(unicodedata.category(c) in ("Cc", "Cs") for c in value)
