"""The share of one process in the local stores. The first process to join starts them, the last to leave stops them.

The kernel counts the shares: each process holds a shared flock on `users.lock`, and a process that can turn its own
into an exclusive one is the last. A killed process loses its flock when it ends, so the count is never wrong. Stores
that outlive their users are joined by the next process.
"""

from __future__ import annotations

import atexit
import fcntl
import os
from collections.abc import Callable, Mapping

from .directory import DataDirectory, StoreError
from .postgresql import PostgreSQL
from .rabbitmq import RabbitMQ
from .redis import Redis


class Stores:
    def __init__(
        self, directory: DataDirectory, say: Callable[[str], None], postgresql: Mapping[str, str] | None = None
    ) -> None:
        """`postgresql` are settings for it, as `PostgreSQL` takes them."""
        self.directory = directory
        self.postgresql = PostgreSQL(directory, postgresql)
        self.redis = Redis(directory)
        self.rabbitmq = RabbitMQ(directory)
        self.urls: dict[str, str] = {}  # by the name of the setting; only for the stores that `join` asked for
        self._say = say
        self._share: int | None = None
        self._process = os.getpid()

    def join(self, *, postgresql: bool = True, redis: bool = True, rabbitmq: bool = False) -> None:
        """Starts the stores that do not run. They run at least until `leave`, which interpreter exit calls too."""
        with self.directory.alone():
            self._share = self.directory.open("users.lock")
            fcntl.flock(self._share, fcntl.LOCK_SH)
            try:
                if rabbitmq:  # first: it is the one that may have to be installed, and then nothing else is said
                    self.rabbitmq.start(self._say)
                    self.urls["BROKER_URL"] = self.rabbitmq.url
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
        """Gives the share back. The last process to do so stops the stores. A second call does nothing."""
        # A fork has a copy of its parent's share in memory, but only the parent may give it back.
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
            for store in (self.redis, self.rabbitmq, self.postgresql):
                try:
                    store.stop()
                except StoreError as error:
                    self._say(str(error))
        except BlockingIOError:
            pass  # another process still uses them
        finally:
            os.close(share)
