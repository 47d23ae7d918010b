"""A board: its keys, its group and its ETag. There is one board today; no other module may assume so."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings


@dataclass(frozen=True)
class Board:
    """`name` is also the key of the ZSET in Redis: a contract with external readers of Redis."""

    name: str

    @property
    def key(self) -> str:
        """The ZSET: member = user id, score = total."""
        return self.name

    @property
    def state_key(self) -> str:
        """The hash with the state of the copy: the log and the event that the ZSET belongs to."""
        return f"{self.name}:state"

    @property
    def rebuilt_key(self) -> str:
        """The description of the last rebuild, for people."""
        return f"{self.name}:rebuilt"

    def side_key(self, token: str) -> str:
        """The ZSET that a rebuild fills and then renames to `key`."""
        return f"{self.name}:rebuild:{token}"

    @property
    def group(self) -> str:
        """The group of the channel layer that tells the hubs of all processes about changes."""
        return self.name

    def etag(self, epoch: str, seq: int, limit: int, offset: int) -> str:
        """The tag of a page as of an event: RFC 9110, section 8.8.3. The store it was read from does not change it.

        The release does: after an upgrade, the body of the same page may have another form.
        """
        return f'"{self.name}-{epoch}-{seq}-{limit}-{offset}-{settings.RELEASE}"'


LEADERBOARD = Board("leaderboard")
