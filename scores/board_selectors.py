"""Reads of boards: from their copies in Redis, or from the standings when a copy cannot answer.

Each answer names its store, the period it is about, and the event it is as of: the position of the board in that store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from django.db import Error as DatabaseError

from scores.boards import reads
from scores.boards.catalogue import Catalogue, Known, Span, catalogue
from scores.boards.copies import BoardCopies, board_copies
from scores.boards.reads import (
    BoardAnswer,
    BoardEntry,
    BoardPageQuestion,
    BoardPlaceQuestion,
    BoardQuestion,
    ReachedWith,
)
from scores.exceptions import BoardBuilding, BoardUnknown, CopyUnusable, NoStoreAnswers, ScoreError, Unavailable
from scores.log import refusals
from scores.log.head import Head, Log, log
from scores.models import RESERVED, Board
from scores.projection.tail import Tail, tail
from scores.selectors import Source, batcher_of_reads
from scores.stores.batcher import Batcher

from . import metrics, selectors

logger = logging.getLogger(__name__)

LOOK_AT_LEAST_EVERY_S = 1.0  # also while nobody asks
LOOK_MOST_S = 0.3  # that a reader waits for the boards to be read again
SILENT_S = 1.0  # after which boards are taken as they were known: the tail asks the database four times a second
FOREVER = Span(1, None, None, 1, None)  # the one period of the default board


class PageOf(NamedTuple):
    """A request for rows of a board: `period` is current, previous, a date or a number."""

    board: str
    period: str
    limit: int
    offset: int


class PlaceOf(NamedTuple):
    """A request for the row of one user."""

    board: str
    period: str
    user_id: str
    with_event: bool


class PeriodsOf(NamedTuple):
    """A request for the periods of a board that have begun, the newest first."""

    board: str
    limit: int
    offset: int


class DefinitionOf(NamedTuple):
    """A request for the board itself."""

    board: str


class Look(NamedTuple):
    """A request to read the boards again, if it is time."""


Asked = PageOf | PlaceOf | PeriodsOf | DefinitionOf


class BoardPage(NamedTuple):
    """Rows of a period of a board, as of event `seq` of `epoch`. `total` is the number of members in the period."""

    board: Board
    period: Span
    entries: list[BoardEntry]
    total: int
    epoch: str
    seq: int
    source: Source
    age_s: float  # seconds since the database last confirmed the end of the log; newer events may exist
    reached_with: ReachedWith | None = None


class BoardTop(NamedTuple):
    """The first rows of the current period of any board, the default one included; `entries` are rank, user, score.

    `board_id` tells boards apart that have the same name one after the other; that of the default board is 0.
    """

    board: str
    board_id: int
    is_public: bool
    period: Span
    entries: list[tuple[int, str, int]]
    epoch: str
    seq: int
    age_s: float


class BoardPeriods(NamedTuple):
    """Periods of a board, as of `head` or a moment later."""

    board: Board
    periods: list[Span]
    head: Head


Answer = BoardPage | BoardPeriods | Board
Answers = dict[Asked | Look, Answer | Exception | None]


async def page(board: str, period: str, limit: int, offset: int) -> BoardPage:
    """Raises `BoardUnknown`, `PeriodUnknown`, `PeriodInvalid`, or `Unavailable`."""
    answer = await reader.ask(PageOf(board, period, limit, offset))
    assert isinstance(answer, BoardPage)
    return answer


async def place(board: str, period: str, user_id: str, *, with_event: bool = False) -> BoardPage:
    """A page with the row of one user, or without any. Raises as `page` does.

    With the event with which the user reached the score, the answer is always the database's, since no copy has it.
    """
    answer = await reader.ask(PlaceOf(board, period, user_id, with_event))
    assert isinstance(answer, BoardPage)
    return answer


async def periods(board: str, limit: int, offset: int) -> BoardPeriods:
    """Raises `BoardUnknown` or `Unavailable`."""
    answer = await reader.ask(PeriodsOf(board, limit, offset))
    assert isinstance(answer, BoardPeriods)
    return answer


async def definition(board: str) -> Board:
    """The board as this process knows it. Raises `BoardUnknown` or `Unavailable`."""
    answer = await reader.ask(DefinitionOf(board))
    assert isinstance(answer, Board)
    return answer


async def admit(user_id: str, token: str) -> None:
    """Raise `Refused` if the user, or the service with this token, may not look at what needs a token."""
    await refusals.admit(user_id, token)


async def top(board: str, limit: int) -> BoardTop:
    """Raises `BoardUnknown`, `PeriodUnknown`, or `Unavailable`."""
    if board == RESERVED:
        of_default = await selectors.top(limit)
        rows = [(entry.rank, entry.user_id, entry.score) for entry in of_default.entries]
        return BoardTop(board, 0, True, FOREVER, rows, of_default.epoch, of_default.seq, of_default.age_s)
    found = await page(board, "current", limit, 0)
    rows = [(entry.rank, entry.user_id, score_of(found.board, entry)) for entry in found.entries]
    return BoardTop(
        board, found.board.id, found.board.is_public, found.period, rows, found.epoch, found.seq, found.age_s
    )


class BoardReader:
    """Answers requests for all boards of a log.

    One thread answers from the copies what they have, and another asks the database: a database that is silent, and does
    not even refuse, holds that thread for as long as it likes, and the copies go on meanwhile.
    """

    def __init__(self, catalogue: Catalogue, copies: BoardCopies, tail: Tail, log: Log) -> None:
        self._catalogue = catalogue
        self._copies = copies
        self._tail = tail
        self._log = log
        self._looking: asyncio.Task[None] | None = None
        self._copied: Batcher[Asked, Answer | None] = batcher_of_reads("board reader", self.answer_at_once)
        self._stored: Batcher[Asked | Look, Answer | None] = batcher_of_reads(
            "board reader of the database", self.answer
        )

    def start(self) -> None:
        """Know boards before anybody asks: whoever learns of them at the first question cannot while the database is away."""
        self._looking = asyncio.get_running_loop().create_task(self._keep_looking(), name="boards known")

    async def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        await asyncio.to_thread(self.close)

    async def _keep_looking(self) -> None:
        while True:
            if self._catalogue.is_due:
                try:
                    await self._stored.submit(Look())
                except Unavailable:
                    pass  # the next time
                except Exception:
                    logger.exception("Boards could not be looked at; they will be again")
            await asyncio.sleep(LOOK_AT_LEAST_EVERY_S)

    async def ask(self, asked: Asked) -> Answer:
        """Raises what `answer` has, or `Unavailable`."""
        answer = await self._copied.submit(asked) or await self._stored.submit(asked)
        assert answer is not None  # as that of a look is
        return answer

    def close(self) -> None:
        """Answer what waits, and end the threads."""
        self._copied.close()
        self._stored.close()

    def answer_at_once(self, asked: Sequence[Asked]) -> list[Answer | Exception | None]:
        """The answers that no look into the database is needed for, `None` for the others."""
        if self._catalogue.is_due and self._tail.silence_s <= SILENT_S:
            with suppress(Unavailable):  # then what was known before serves
                self._stored.submit_and_wait(Look(), LOOK_MOST_S)
        answers: dict[Asked, Answer | Exception] = {}
        questions: dict[Asked, tuple[Known, Span, BoardQuestion]] = {}
        for each in dict.fromkeys(asked):
            known = self._catalogue.find(each.board)
            if known is None or isinstance(each, PeriodsOf) or (isinstance(each, PlaceOf) and each.with_event):
                continue
            try:
                if isinstance(each, DefinitionOf):
                    answers[each] = known.board
                elif (span := known.recent(each.period)) is not None:
                    questions[each] = known, span, _question(each, known, span)
            except ScoreError as error:
                answers[each] = error
        copied, found = self._read_copies(list(questions.values())) if questions else ("", {})
        for each, (known, span, question) in questions.items():
            if question in found:
                answers[each] = self._page(known, span, found[question], copied, Source.REDIS)
        return [answers.get(each) for each in asked]

    def answer(self, asked: Sequence[Asked | Look]) -> list[Answer | Exception | None]:
        """The answer to each, `None` of a look, or why there is none. Raises `NoStoreAnswers`."""
        try:
            return self._answers(list(dict.fromkeys(asked)), asked)
        except DatabaseError as error:
            self._log.connection.close()
            raise NoStoreAnswers from error

    def _answers(self, distinct: list[Asked | Look], asked: Sequence[Asked | Look]) -> list[Answer | Exception | None]:
        answers: Answers = {}
        questions: dict[Asked, tuple[Known, Span, BoardQuestion]] = {}
        for each in distinct:
            try:
                if isinstance(each, Look):
                    self._catalogue.look()
                    answers[each] = None
                    continue
                is_away = self._tail.silence_s > SILENT_S
                known = self._catalogue.board(each.board, is_away=is_away)
                if isinstance(each, DefinitionOf):
                    answers[each] = known.board
                elif isinstance(each, PeriodsOf):
                    head = self._log.head()  # first: what is read after it lacks nothing of it
                    found = self._catalogue.periods(known, limit=each.limit, offset=each.offset)
                    answers[each] = BoardPeriods(known.board, found, head)
                else:
                    span = self._catalogue.period(known, each.period)
                    questions[each] = known, span, _question(each, known, span)
            except ScoreError as error:
                answers[each] = error
            except DatabaseError:  # which has ended this question only: the copies may answer the others
                self._log.connection.close()
                answers[each] = NoStoreAnswers()
        if questions:
            answers |= self._read(questions)
        return [answers[each] for each in asked]

    def _read(self, questions: dict[Asked, tuple[Known, Span, BoardQuestion]]) -> Answers:
        """From the copies, and what they do not have from the standings."""
        copied, from_redis = self._read_copies(list(questions.values()))
        rest = [question for _, _, question in questions.values() if question not in from_redis]
        origin, from_database = "", dict[BoardQuestion, BoardAnswer]()
        is_read = False
        if rest:
            try:
                origin, from_database = self._read_database(rest)
                is_read = True
            except DatabaseError:
                self._log.connection.close()
        answers: Answers = {}
        for asked, (known, span, question) in questions.items():
            source = Source.REDIS if question in from_redis else Source.DATABASE
            answer = from_redis.get(question) or from_database.get(question)
            if answer is None:
                answers[asked] = self._lacking(known) if is_read else NoStoreAnswers()
            else:
                answers[asked] = self._page(known, span, answer, copied if source is Source.REDIS else origin, source)
        return answers

    def _lacking(self, known: Known) -> ScoreError:
        """Why a board has no standings: it is new, perhaps another of its name, or it was deleted a moment ago."""
        self._catalogue.look(now=True)
        return BoardBuilding() if self._catalogue.find(known.board.name) else BoardUnknown()

    def _page(self, known: Known, span: Span, answer: BoardAnswer, epoch: str, source: Source) -> BoardPage:
        metrics.reads.labels(source.value).inc()
        age_s = self._tail.age_at(answer.seq)
        rest = answer.entries, answer.members, epoch, answer.seq, source, age_s, answer.reached_with
        return BoardPage(known.board, span, *rest)

    def _read_copies(
        self, questions: Sequence[tuple[Known, Span, BoardQuestion]]
    ) -> tuple[str, dict[BoardQuestion, BoardAnswer]]:
        """The origin of the log, and those answers that the copies have."""
        try:
            origin = self._tail.origin()
            self._copies.mark_read(known.board.id for known, _, _ in questions)
            asked = {
                question: known.board.ties == Board.Ties.FIRST
                for known, _, question in questions
                if isinstance(question, BoardPageQuestion) or not question.with_event
            }
            if not asked:
                return origin, {}
            found = self._copies.read(origin, list(asked.items()))
        except CopyUnusable:
            return "", {}
        return origin, {question: answer for question, answer in zip(asked, found, strict=True) if answer is not None}

    def _read_database(self, questions: Sequence[BoardQuestion]) -> tuple[str, dict[BoardQuestion, BoardAnswer]]:
        """The origin of the log, and the answers from the standings: none of a board that has not been built."""
        self._log.drop_dead_connection()  # it has been idle while Redis answered
        self._log.head()  # starts the log if there is none, which the read-only transaction cannot do
        with self._log.snapshot() as head, self._log.connection.cursor() as cursor:
            positions = reads.positions(cursor, self._log.name, (question.board for question in questions))
            return head.origin, {
                question: reads.answer(cursor, question, positions[question.board])
                for question in dict.fromkeys(questions)
                if question.board in positions
            }


def _question(asked: PageOf | PlaceOf, known: Known, span: Span) -> BoardQuestion:
    if isinstance(asked, PageOf):
        return BoardPageQuestion(known.board.id, span.number, asked.limit, asked.offset)
    return BoardPlaceQuestion(known.board.id, span.number, asked.user_id, asked.with_event)


def score_of(board: Board, entry: BoardEntry) -> int:
    return -entry.key if board.order == Board.Order.LOWER else entry.key


reader = BoardReader(catalogue, board_copies, tail, log)
