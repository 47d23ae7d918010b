"""A board as a name: under which keys, group and tag one of them is known. There is one today; nothing else may assume so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Board:
    """`name` is the key of its ZSET in Redis, which is part of the contract with those who read Redis themselves."""

    name: str

    @property
    def key(self) -> str:
        """The ZSET: member = user id, score = total."""
        return self.name

    @property
    def state_key(self) -> str:
        """The hash that says of which log, and as of which event, the ZSET is."""
        return f"{self.name}:state"

    @property
    def rebuilt_key(self) -> str:
        """What the last rebuild was, for people."""
        return f"{self.name}:rebuilt"

    def side_key(self, token: str) -> str:
        """A ZSET that a rebuild fills before it takes the place of the other."""
        return f"{self.name}:rebuild:{token}"

    @property
    def group(self) -> str:
        """The group of the channel layer on which the hubs of all processes are told of changes."""
        return self.name

    def etag(self, epoch: str, seq: int, *page: int) -> str:
        """The tag of a page as of an event: RFC 9110, section 8.8.3. Where the page was read does not change it."""
        return f'"{"-".join(map(str, (self.name, epoch, seq, *page)))}"'


LEADERBOARD = Board("leaderboard")
