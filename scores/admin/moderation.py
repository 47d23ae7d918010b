"""Moderation: correct, block and unblock, through `services`, with the moderator's name and a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django import forms

from scores import services
from scores.exceptions import Overloaded, ScoreError, Unavailable
from scores.log.ledger import Recorded
from scores.models import MAX_TOTAL
from scores.user_id import SERVICE_PREFIX, is_service

MAX_AT_ONCE = 100  # users; each takes a transaction of a few milliseconds


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60, "autofocus": True}),
        help_text="Stored permanently in the event log, together with your name.",
    )


class CorrectionForm(ReasonForm):
    total = forms.IntegerField(label="New score", min_value=0, max_value=MAX_TOTAL)
    field_order = ["total", "reason"]


class Moderation(NamedTuple):
    """`name` is part of the URL; `past` is for sentences such as "The player ann was blocked"; the form shows `effect`."""

    name: str
    permission: str
    past: str
    effect: str
    form: type[ReasonForm]
    service: Callable[..., Recorded]


MODERATIONS = {
    moderation.name: moderation
    for moderation in (
        Moderation(
            "correct",
            "correct",
            "corrected",
            "Sets the score to this value, even if it changes before you confirm. Later points are added to it.",
            CorrectionForm,
            services.correct,
        ),
        Moderation(
            "block",
            "block",
            "blocked",
            "Removes the users from the board at once and refuses their points. Their scores are kept.",
            ReasonForm,
            services.block,
        ),
        Moderation(
            "unblock",
            "block",
            "unblocked",
            "Puts the users back on the board at once, with their earlier scores.",
            ReasonForm,
            services.unblock,
        ),
    )
}


class Outcome(NamedTuple):
    """The outcome of a moderation of one user: `recorded`, or `failure`, a sentence."""

    user_id: str
    recorded: Recorded | None
    failure: str = ""


def moderate(moderation: Moderation, user_ids: Sequence[str], *, actor: str, details: dict[str, Any]) -> list[Outcome]:
    """Moderate each of `user_ids`; a refusal for one user does not affect the others.

    Stops when the database does not answer: every further user would wait almost two seconds in vain.
    """
    outcomes: list[Outcome] = []
    for user_id in user_ids:
        try:
            outcomes.append(Outcome(user_id, moderation.service(user_id=user_id, actor=actor, **details)))
        except Unavailable as error:
            outcomes.append(Outcome(user_id, None, unconfirmed(moderation, user_id, error)))
            break
        except ScoreError as error:
            outcomes.append(Outcome(user_id, None, f"{named(user_id)} was not {moderation.past}: {error}"))
    outcomes += (
        Outcome(user_id, None, f"{named(user_id)} was not {moderation.past}: the database does not answer right now.")
        for user_id in user_ids[len(outcomes) :]
    )
    return outcomes


def named(user_id: str) -> str:
    """The user at the beginning of a message: Django writes its first letter as a capital, which would be another id."""
    if is_service(user_id):
        return f"The service {user_id.removeprefix(SERVICE_PREFIX)}"
    return f"The player {user_id}"


def unconfirmed(moderation: Moderation, user_id: str, error: Unavailable) -> str:
    if isinstance(error, Overloaded):
        return f"{named(user_id)} was not {moderation.past}: {error}"
    return (
        f"The database did not confirm in time that {user_id} was {moderation.past}. "
        "It may have happened: check the newest events before you try again."
    )
