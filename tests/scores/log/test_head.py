"""The end of the log, while other hands are at its row."""

from __future__ import annotations

import threading

from django.db.backends.base.base import BaseDatabaseWrapper

from scores.log.head import log
from tests.polling import until


def test_a_head_that_is_deleted_again_and_again_begins_anew(rival: BaseDatabaseWrapper) -> None:
    """Also when it is deleted between its start and the look at it, which was an error of the server."""
    ended = threading.Event()

    def delete() -> None:
        while not ended.is_set():
            with rival.cursor() as cursor:
                cursor.execute("DELETE FROM leaderboards")
        rival.close()

    def began_anew() -> bool:
        heads.append(log.head())
        return len({head.origin for head in heads}) > 1

    rival.inc_thread_sharing()
    deleting = threading.Thread(target=delete)
    deleting.start()
    try:
        heads = [log.head() for _ in range(40)]
        until(began_anew)  # it may have had no turn so far
    finally:
        ended.set()
        deleting.join()

    assert {head.seq for head in heads} == {0}
    assert len({head.origin for head in heads}) > 1
