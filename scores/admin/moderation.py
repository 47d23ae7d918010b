"""What a moderator does to a score: each act goes through `services`, under the moderator's name and with a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django import forms

from scores import services
from scores.exceptions import Overloaded, ScoreError, Unavailable
from scores.log.ledger import Recorded
from scores.models import MAX_TOTAL

MAX_AT_ONCE = 100  # users; each is a transaction of a few milliseconds


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60, "autofocus": True}),
        help_text="Kept in the log of events for ever, beside your name.",
    )


class CorrectionForm(ReasonForm):
    total = forms.IntegerField(label="New score", min_value=0, max_value=MAX_TOTAL)
    field_order = ["total", "reason"]


class Moderation(NamedTuple):
    """`name` is that of its address; `past` is for sentences, as in "ann was blocked"; `effect` is said before it."""

    name: str
    permission: str
    past: str
    effect: str
    form: type[ReasonForm]
    service: Callable[..., Recorded]


MODERATIONS = {
    act.name: act
    for act in (
        Moderation(
            "correct",
            "correct",
            "corrected",
            "The score is set to this, whatever it is when you confirm. Points that come later are added to it.",
            CorrectionForm,
            services.correct,
        ),
        Moderation(
            "block",
            "block",
            "blocked",
            "They leave the board at once, and their points are refused. Their scores are kept.",
            ReasonForm,
            services.block,
        ),
        Moderation(
            "unblock",
            "block",
            "unblocked",
            "They are back on the board at once, with the scores they had.",
            ReasonForm,
            services.unblock,
        ),
    )
}


class Outcome(NamedTuple):
    """What became of an act on one user: `recorded`, or `failure`, which is a sentence."""

    user_id: str
    recorded: Recorded | None
    failure: str = ""


def carry_out(act: Moderation, user_ids: Sequence[str], *, actor: str, details: dict[str, Any]) -> list[Outcome]:
    """Act on each of `user_ids`; whoever cannot be acted on does not keep the others from it.

    Ends early when the database does not answer: it would not for the others either, after almost two seconds each.
    """
    outcomes: list[Outcome] = []
    for user_id in user_ids:
        try:
            outcomes.append(Outcome(user_id, act.service(user_id=user_id, actor=actor, **details)))
        except Unavailable as error:
            outcomes.append(Outcome(user_id, None, unclear(act, user_id, error)))
            break
        except ScoreError as error:
            outcomes.append(Outcome(user_id, None, f"{user_id} was not {act.past}: {error}"))
    outcomes += (
        Outcome(user_id, None, f"{user_id} was not {act.past}: the database does not answer right now.")
        for user_id in user_ids[len(outcomes) :]
    )
    return outcomes


def unclear(act: Moderation, user_id: str, error: Unavailable) -> str:
    if isinstance(error, Overloaded):
        return f"{user_id} was not {act.past}: {error}"
    return (
        f"The database did not confirm in time that {user_id} was {act.past}. "
        "It may have happened: look at the newest events before you try again."
    )
