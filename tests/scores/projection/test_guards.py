"""Each guard switched off in turn: a test that passes must fail then, or nobody would notice that the guard is gone.

Guards are taken out of the code, not faults patched in: what fails without them are the suite's own tests.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

import pytest

from scores.exceptions import CopyUnusable
from scores.log.head import Log
from scores.log.ledger import Ledger
from scores.projection import scripts, scrub
from scores.projection.leaderboard import _Newest
from scores.projection.tail import Tail
from tests import polling
from tests.scores.log import test_writer

from . import test_foreign_hands, test_history, test_leaderboard, test_scrub, test_tail
from .test_foreign_hands import two_players  # noqa: F401  fixtures of the witnesses
from .test_history import process  # noqa: F401
from .test_leaderboard import origin  # noqa: F401
from .test_scrub import many_players  # noqa: F401
from .test_tail import heard, tail  # noqa: F401

SCRIPTS = ["APPLY", "READ", "SWAP", "MEND", "STATE"]
Patch = pytest.MonkeyPatch


def without(line: str, patch: Patch) -> None:
    """Take `line` out of every script that has it."""
    having = [name for name in SCRIPTS if line in getattr(scripts, name)]
    assert having
    for name in having:
        patch.setattr(scripts, name, getattr(scripts, name).replace(line, ""))


def remember_no_keys(patch: Patch) -> None:
    decide = Ledger.decide
    patch.setattr(Ledger, "decide", lambda ledger, change: decide(ledger, change._replace(idempotency_key=None)))


def never_look(patch: Patch) -> None:
    patch.setattr(Tail, "check", lambda self: None)


def never_mend(patch: Patch) -> None:
    patch.setattr(scrub, "mend", lambda copy, user_ids: 0)


def forget_the_log(patch: Patch) -> None:
    patch.setattr(Log, "seen", lambda log: None)


def forget_what_was_seen(patch: Patch) -> None:
    patch.setattr(_Newest, "of", lambda *_: 0)


GUARDS: dict[str, tuple[Callable[[Patch], None], Callable[..., None]]] = {
    "the size check": (
        partial(without, "if tonumber(state[3]) ~= size then return 'damaged' end"),
        partial(test_leaderboard.test_a_copy_that_somebody_touched_is_not_believed, "member removed"),
    ),
    "the origin check": (
        partial(without, "if state[1] ~= ARGV[1] then return 'foreign' end"),
        test_leaderboard.test_another_log_is_foreign,
    ),
    "the check that an event is new": (
        partial(without, "if at >= last then return {'done'} end"),
        partial(test_leaderboard.test_what_the_copy_has_seen_changes_nothing, 2, 2),
    ),
    "the check that no event is jumped": (
        partial(without, "if at ~= first - 1 then return {'behind'} end"),
        test_leaderboard.test_a_gap_is_not_jumped,
    ),
    "the check that the copy is of this history": (
        partial(without, "if is_other(ARGV[4]) then return {'diverged'} end"),
        test_history.test_a_copy_of_a_lost_history_is_not_moved_on,
    ),
    "the check that seq was not moved alone": (
        partial(without, "if at ~= reach then return {'behind'} end"),
        partial(test_foreign_hands.test_a_seq_that_was_moved_alone_hides_no_event, 1, 1),
    ),
    "the check that the copy has nothing newer": (
        partial(without, "if reach > last then return {'behind'} end"),
        test_foreign_hands.test_what_an_earlier_version_moved_is_not_set_back,
    ),
    "the memory of what was seen": (
        forget_the_log,
        test_history.test_a_writer_that_saw_what_was_lost_begins_a_new_epoch,
    ),
    "the check that the copy does not go back": (
        forget_what_was_seen,
        test_foreign_hands.test_a_copy_that_went_back_is_not_read,
    ),
    "the record of keys": (remember_no_keys, test_writer.test_a_key_counts_once_in_one_transaction_and_over_several),
    "the tail": (never_look, partial(test_tail.test_a_running_tail_mends_it_by_itself, "a write untold")),
    "the scrub": (never_mend, partial(test_scrub.test_a_score_changed_by_hand_is_mended_wherever_it_is, "user00")),
}

# What a witness's own module does before each of its tests.
PREPARED_BY = {
    "the check that the copy does not go back": ("two_players",),
    "the check that seq was not moved alone": ("two_players",),
    "the check that the copy has nothing newer": ("two_players",),
    "the scrub": ("many_players",),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_the_suite_sees_that_nothing_is_guarded_by(
    guard: str, request: pytest.FixtureRequest, monkeypatch: Patch
) -> None:
    switch_off, witness = GUARDS[guard]
    for name in PREPARED_BY.get(guard, ()):
        request.getfixturevalue(name)
    given = {name: request.getfixturevalue(name) for name in inspect.signature(witness).parameters}

    switch_off(monkeypatch)
    monkeypatch.setattr(polling, "DEADLINE_S", 3.0)  # for what will not come

    with pytest.raises((AssertionError, pytest.fail.Exception, CopyUnusable)):
        witness(**given)
