"""The master that sentinels name. They are asked in a thread: a sentinel that is silent must not hold a request."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from redis.sentinel import MasterNotFoundError, SentinelConnectionPool

from .redis import moved

logger = logging.getLogger(__name__)

Address = tuple[str, int]

FIRST_ANSWER_S = 0.1  # of a process that has just started; later ones use what was answered last


class Lookout:
    """Knows where the master `name` is. Each new connection makes it ask again, beside what it answers.

    All sentinels are asked, and the answer with the newest configuration counts: one that was stopped or cut off names
    the master of before until the others have told it.
    """

    def __init__(self, name: str, sentinels: Sequence[Address], options: dict[str, Any]) -> None:
        self._name = name
        self._sentinels: list[Any] = [Redis(host, port, **options) for host, port in sentinels]
        self._address: Address | None = None
        self._answered = threading.Event()
        self._asking = threading.Lock()

    def discover_master(self, name: str) -> Address:
        """Where the master was when the sentinels were last asked. Raises `MasterNotFoundError` if none has named one."""
        if self._asking.acquire(blocking=False):
            threading.Thread(target=self._look, name="sentinels", daemon=True).start()
        if self._address is None:
            self._answered.wait(FIRST_ANSWER_S)
        if self._address is None:
            raise MasterNotFoundError(f"No sentinel of {len(self._sentinels)} names a healthy master {name!r}")
        return self._address

    def _look(self) -> None:
        try:
            found = self._ask()
            if found is None or found == self._address:
                return
            before, self._address = self._address, found
            self._answered.set()
            if before is not None:
                logger.warning("The sentinels name another master of %r: %s:%d", self._name, *found)
                moved()
        except Exception:
            logger.exception("The sentinels could not be asked; the next connection asks again")
        finally:
            self._asking.release()

    def _ask(self) -> Address | None:
        answers: list[tuple[int, Address]] = []
        for sentinel in self._sentinels:
            try:
                state = sentinel.sentinel_masters().get(self._name)
            except (RedisError, OSError) as error:
                logger.debug("A sentinel does not answer: %s", error)
                continue
            if state and state["is_master"] and not state["is_sdown"] and not state["is_odown"]:
                answers.append((state["config-epoch"], (state["ip"], state["port"])))
        return max(answers)[1] if answers else None


class MasterPool(SentinelConnectionPool):
    """Connections to the master. Those to a former one are given up when another is named."""

    @classmethod
    def from_url(cls, url: str, **options: Any) -> MasterPool:
        """`url` is only the name by which django-redis shares connections; the options say where the sentinels are."""
        master, sentinels = options.pop("master"), options.pop("sentinels")
        sentinel_options = options.pop("sentinel_options")
        if (lookout := _lookouts.get((master, sentinels))) is None:
            lookout = _lookouts[master, sentinels] = Lookout(master, sentinels, sentinel_options)
        return cls(master, lookout, **options)


_lookouts: dict[tuple[str, Sequence[Address]], Lookout] = {}  # one for the pools of all timeouts
