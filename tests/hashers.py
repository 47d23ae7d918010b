"""Passwords for tests, which nobody wants to guess."""

from __future__ import annotations

import os

from leaderboard_site.server.hashing import BoundedPBKDF2PasswordHasher


class QuickHasher(BoundedPBKDF2PasswordHasher):
    iterations = int(os.environ.get("TESTS_HASH_ITERATIONS", "1"))
