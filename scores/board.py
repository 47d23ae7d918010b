"""A board: its keys, its group and its ETag. There is one board today; no other module may assume so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from zlib import crc32


@dataclass(frozen=True)
class BoardNames:
    """`name` is also the key of the ZSET in Redis: a contract with external readers of Redis."""

    name: str
    tag: str = ""  # the part of the other keys that says in which slot of a cluster they are

    @cached_property
    def in_cluster(self) -> BoardNames:
        """The same board in a Redis in cluster mode, where all keys of a script must be in one slot.

        That of the ZSET, which keeps its name. Elsewhere the other keys keep theirs: processes of another version would
        move the same ZSET under a second state.
        """
        return replace(self, tag=f"{{{self.name}}}")

    @property
    def key(self) -> str:
        """The ZSET: member = user id, score = total."""
        return self.name

    @cached_property
    def state_key(self) -> str:
        """The hash with the state of the copy: the log and the event that the ZSET belongs to."""
        return f"{self.tag or self.name}:state"

    @cached_property
    def rebuilt_key(self) -> str:
        """The description of the last rebuild, for people."""
        return f"{self.tag or self.name}:rebuilt"

    def side_key(self, token: str) -> str:
        """The ZSET that a rebuild fills and then renames to `key`."""
        return f"{self.tag or self.name}:rebuild:{token}"

    # Of the other boards of the same log. In one slot with the ZSET, in cluster mode or not, so that a script may use all.

    @cached_property
    def boards_key(self) -> str:
        """The hash with the state of the copies of all other boards."""
        return f"{{{self.name}}}:boards"

    @cached_property
    def boards_read_key(self) -> str:
        """The hash that says when each of them was last read, in POSIX seconds, to the minute."""
        return f"{{{self.name}}}:boards:read"

    @cached_property
    def building_key(self) -> str:
        """The description of the board whose standings are being built, for people."""
        return f"{{{self.name}}}:boards:building"

    def period_keys(self, board: int, period: int, token: str = "") -> tuple[str, str]:
        """The ZSET of a period of another board, and the hash beside it; with a token those that a rebuild fills."""
        key = f"{{{self.name}}}:board:{board}:{period}" + (f":rebuild:{token}" if token else "")
        return key, f"{key}:at"

    @property
    def group(self) -> str:
        """The group of the channel layer that tells the hubs of all processes about changes."""
        return self.name

    def etag(self, epoch: str, seq: int, limit: int, offset: int, body: bytes) -> str:
        """The tag of a page as of an event: RFC 9110, section 8.8.3. The store it was read from does not change it.

        Its body does: another version may write the page in another form, and a copy may have been wrong for a while.
        """
        return f'"{self.name}-{epoch}-{seq}-{limit}-{offset}-{crc32(body):08x}"'


LEADERBOARD = BoardNames("leaderboard")
