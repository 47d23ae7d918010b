"""One process's share in the local stores. Who joins first starts them, who leaves last stops them.

The shares are counted by the kernel: each process holds a shared flock on `users.lock`, and whoever can turn its own into
an exclusive one is alone. A killed process loses its flock with its life, so no count is ever wrong; stores that
outlived their users are joined by the next one.
"""

from __future__ import annotations

import atexit
import fcntl
import os
from collections.abc import Callable, Mapping

from .directory import DataDirectory, StoreError
from .postgresql import PostgreSQL
from .redis import Redis


class Stores:
    def __init__(
        self, directory: DataDirectory, say: Callable[[str], None], postgresql: Mapping[str, str] | None = None
    ) -> None:
        """`postgresql` are settings for it, as `PostgreSQL` takes them."""
        self.directory = directory
        self.postgresql = PostgreSQL(directory, postgresql)
        self.redis = Redis(directory)
        self.urls: dict[str, str] = {}  # by the name of the setting; only of the stores that were asked for
        self._say = say
        self._share: int | None = None
        self._process = os.getpid()

    def join(self, *, postgresql: bool = True, redis: bool = True) -> None:
        """Start what does not run yet; it stays up at least until `leave`, which the interpreter's exit calls too."""
        with self.directory.alone():
            self._share = self.directory.open("users.lock")
            fcntl.flock(self._share, fcntl.LOCK_SH)
            try:
                if postgresql:
                    self.postgresql.start(self._say)
                    self.urls["DATABASE_URL"] = self.postgresql.url
                if redis:
                    self.redis.start(self._say)
                    self.urls["REDIS_URL"] = self.redis.url
            except BaseException:
                self._give_back_share()
                raise
        atexit.register(self.leave)

    def leave(self) -> None:
        """Give the share back; the last to do so stops the stores. Calling it again does nothing."""
        # A fork has its parent's share in its memory, but the share is not its to give.
        if self._share is None or self._process != os.getpid():
            return
        with self.directory.alone():
            self._give_back_share()
        atexit.unregister(self.leave)

    def _give_back_share(self) -> None:
        assert self._share is not None
        share, self._share = self._share, None
        try:
            fcntl.flock(share, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.redis.stop()
            self.postgresql.stop()
        except BlockingIOError:
            pass  # somebody else still uses them
        except StoreError as error:
            self._say(str(error))
        finally:
            os.close(share)
