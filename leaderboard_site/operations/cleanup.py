"""The cleaner: removes expired refresh tokens, sessions and refusals of queued changes, which nothing else does, a few at a time."""

from __future__ import annotations

import logging
import random
import threading
from datetime import timedelta

from django.contrib.sessions.models import Session
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.utils import timezone
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from scores.models import QueuedRefusal

logger = logging.getLogger(__name__)

PORTION = 500  # rows of a table in one transaction, which takes some 20 ms
NEXT_PORTION_S = 1.0
NEXT_ROUND_S = 600.0
# Another host's clock may be behind, and a used token whose row is gone would be taken for one that was never used.
GRACE = timedelta(hours=1)
REFUSALS_KEPT = timedelta(hours=24)
LOCK = "cleanup of expired rows"


class Cleaner:
    """A thread per process. Of all processes, one works at a time, and the others skip their turn."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._run, name="cleaner", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        if self._thread is not None:
            self._ended.set()
            self._thread.join(timeout_s)
            self._thread = None

    def _run(self) -> None:
        while not self._ended.is_set():
            # At random times, so that the processes of a host do not all come at once.
            wait_s = NEXT_ROUND_S * random.uniform(0.5, 1.5)  # noqa: S311  no secret
            try:
                if clean():
                    wait_s = NEXT_PORTION_S
            except DatabaseError as error:
                logger.debug("Could not remove expired rows: %s", error)
            except Exception:
                logger.exception("The cleaner failed and will try again")
            connection.close()  # it is not needed for minutes
            self._ended.wait(wait_s)


def clean() -> bool:
    """Remove a portion of what has expired, unless another process does. Returns whether there may be more."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Until the end of the transaction, so that a pooler between here and PostgreSQL cannot strand the lock.
            cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext(%s))", [LOCK])
            (acquired,) = cursor.fetchone()
        if not acquired:
            return False
        # The oldest rows, by primary key: tokens have no index by time, and all live equally long.
        oldest = OutstandingToken.objects.order_by("pk")[:PORTION].values_list("pk", "expires_at")
        latest = timezone.now() - GRACE
        tokens = [pk for pk, expires_at in oldest if expires_at < latest]
        OutstandingToken.objects.filter(pk__in=tokens).delete()  # and their rows in the blacklist
        sessions = Session.objects.filter(expire_date__lt=latest).order_by("expire_date")[:PORTION]
        keys = list(sessions.values_list("pk", flat=True))
        Session.objects.filter(pk__in=keys).delete()
        refusals = QueuedRefusal.objects.filter(at__lt=timezone.now() - REFUSALS_KEPT).order_by("at")[:PORTION]
        forgotten = list(refusals.values_list("pk", flat=True))
        QueuedRefusal.objects.filter(pk__in=forgotten).delete()
    return PORTION in (len(tokens), len(keys), len(forgotten))


cleaner = Cleaner()
