"""When service tokens were last used: noted in memory by requests, written by a thread once a minute."""

from __future__ import annotations

import logging
import threading
import time

from django.db import Error as DatabaseError

from .head import Log, log

logger = logging.getLogger(__name__)

WRITE_EVERY_S = 60.0
# Several processes note the same token, and together they write its row at most once a minute.
WRITE_SQL = """
    UPDATE service_tokens t SET last_used_at = to_timestamp(used.at)
    FROM unnest(%s::text[], %s::float8[]) AS used (token, at)
    WHERE t.prefix = used.token
      AND (t.last_used_at IS NULL OR t.last_used_at < to_timestamp(used.at) - interval '1 minute')
"""


class TokenUses:
    """The newest use of each token since the last write. A process that dies loses a minute, which no decision needs."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._newest: dict[str, float] = {}  # POSIX seconds by prefix
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._ended = threading.Event()

    def note(self, prefix: str) -> None:
        """The token with this prefix was used just now; "" is a token without a row. Starts the thread at first."""
        if not prefix:
            return
        self._newest[prefix] = time.time()
        if self._thread is None:
            self._start()

    def write(self) -> None:
        """Write what was noted. Raises Django's `DatabaseError`; then it is written the next time."""
        noted, self._newest = self._newest, {}
        uses = list(noted.items())  # in one step: a request may still be writing into it
        if not uses:
            return
        try:
            with self._log.connection.cursor() as cursor:
                cursor.execute(WRITE_SQL, [[prefix for prefix, _ in uses], [at for _, at in uses]])
        except DatabaseError:
            self._newest = noted | self._newest
            raise

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what is left, then end the thread."""
        thread = self._thread
        if thread is not None:
            self._ended.set()
            thread.join(timeout_s)
            self._thread = None

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._ended.clear()
                self._thread = threading.Thread(target=self._run, name="token uses", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(WRITE_EVERY_S)
            try:
                self.write()
            except DatabaseError as error:
                logger.debug("Could not write when service tokens were used: %s", error)
            except Exception:
                logger.exception("The uses of service tokens could not be written; the next minute is another try")
            finally:
                self._log.connection.close()  # nothing to keep a connection for, for a minute


token_uses = TokenUses(log)
