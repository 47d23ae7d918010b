"""Users as the admin shows them: with their rank and whether they are blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.http import HttpRequest

from scores import selectors
from scores.exceptions import NoStoreAnswers
from scores.models import UserScore

if TYPE_CHECKING:
    from django_stubs_ext import WithAnnotations

    class Shown(TypedDict):
        blocked: bool
        rank: int | None  # None: not on the board, or no store answers

    ShownScore = WithAnnotations[UserScore, Shown]


class Standings(ChangeList):
    """A page of users with their ranks."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        add_ranks(list(self.result_list))

    @property
    def whole_list(self) -> str:
        """The query string of this list without the page number."""
        return self.get_query_string(remove=[PAGE_VAR])


def add_ranks(users: list[ShownScore]) -> None:
    """Set the rank of each of `users`, with one query for all of them."""
    try:
        entries = selectors.standings([user.user_id for user in users]) if users else {}
    except NoStoreAnswers:
        entries = {}
    for user in users:
        entry = entries.get(user.user_id)
        user.rank = entry and entry.rank
