"""Boards beside the default one, their periods, and who stands where: each is a fold of the log over stretches of it."""

from __future__ import annotations

from datetime import time

from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Now

from .log import MAX_TOTAL

BOARD_NAME = "[a-z0-9][a-z0-9_-]{0,63}"
RESERVED = "leaderboard"  # the name of the default board, which has no row here


class Board(models.Model):
    """A ranking of one stream of events by a fold and a period.

    What decides who stands where is fixed once the board is made; the rest may change: `boards.definitions` says which.
    """

    class Fold(models.TextChoices):
        SUM = "sum"
        BEST = "best"
        LATEST = "latest"

    class Order(models.TextChoices):
        HIGHER = "higher"
        LOWER = "lower"

    class Ties(models.TextChoices):
        FIRST = "first"  # who reached the score first stays ahead
        ID = "id"  # by user id, descending by bytes, as on the default board

    class PeriodKind(models.TextChoices):
        FOREVER = "forever"
        HOURLY = "hourly"
        DAILY = "daily"
        WEEKLY = "weekly"
        MONTHLY = "monthly"
        HOURS = "hours"  # every `every_hours` hours from `anchor`
        SEASON = "season"  # explicit starts and ends

    class Submitters(models.TextChoices):
        PLAYERS = "players"  # and services for them
        SERVICES = "services"

    id = models.AutoField(primary_key=True)  # in the keys of Redis and in the standings
    name = models.CharField(max_length=64, unique=True, db_collation="C")
    title = models.CharField(max_length=120, default="", db_default="")
    fold = models.CharField(max_length=6, choices=Fold)
    order = models.CharField(max_length=6, choices=Order, default=Order.HIGHER, db_column="sort_order")
    ties = models.CharField(max_length=5, choices=Ties, default=Ties.FIRST)
    period = models.CharField(max_length=7, choices=PeriodKind, default=PeriodKind.FOREVER)
    zone = models.CharField(max_length=64, default="UTC")
    cut_time = models.TimeField(default=time(0))  # local; where days, weeks and months are cut
    cut_weekday = models.PositiveSmallIntegerField(default=0)  # 0 is Monday
    every_hours = models.PositiveIntegerField(null=True)
    anchor = models.DateTimeField(null=True)  # where the first stretch of `every_hours` starts
    # What it counts: a stream of its own, or the default points, of which `action` selects those of one action.
    stream = models.CharField(max_length=64, null=True, db_collation="C")  # noqa: DJ001  NULL: the default points
    action = models.CharField(max_length=64, null=True, db_collation="C")  # noqa: DJ001  NULL: all of them
    least = models.BigIntegerField(null=True)  # of one submission
    most = models.BigIntegerField(null=True)
    submitters = models.CharField(max_length=8, choices=Submitters, default=Submitters.PLAYERS)
    keep = models.PositiveIntegerField(null=True)  # ended periods; None: all
    is_public = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now())
    archived_at = models.DateTimeField(null=True)  # since when it counts nothing new
    settle_s = models.PositiveIntegerField(default=600, db_default=600)  # from the end of a period until it closes
    # Points by place or range of places: {"1": 500, "3-10": 50}.
    rewards = models.JSONField(default=dict, db_default=Value({}, models.JSONField()))
    webhook_url = models.CharField(max_length=500, default="", db_default="")  # empty: nobody is told
    webhook_secret = models.CharField(max_length=200, default="", db_default="")

    class Meta:
        db_table = "boards"
        constraints = [
            models.CheckConstraint(condition=~Q(name=RESERVED), name="boards_reserved_name"),
            models.CheckConstraint(condition=Q(stream=None) | Q(action=None), name="boards_one_source"),
            models.CheckConstraint(
                condition=Q(period="hours", every_hours__isnull=False, anchor__isnull=False)
                | (~Q(period="hours") & Q(every_hours=None, anchor=None)),
                name="boards_hours",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Period(models.Model):
    """A stretch of the log that a board counts: from event `first_seq` to `last_seq`, both included.

    Which period an event is in is a comparison of numbers, never of clocks. Rows are made ahead, without numbers; the
    rollover fills them in under the lock on the head of the log. A period without events has `last_seq < first_seq`.
    """

    pk = models.CompositePrimaryKey("board_id", "number")
    board = models.ForeignKey(Board, models.CASCADE, related_name="periods", db_index=False)
    number = models.IntegerField()  # from 1
    starts_at = models.DateTimeField(null=True)  # None: from the beginning of the log
    ends_at = models.DateTimeField(null=True)  # None: never
    first_seq = models.BigIntegerField(null=True)  # None: not begun
    last_seq = models.BigIntegerField(null=True)  # None: not ended
    closed_at = models.DateTimeField(null=True)  # when its results were written

    class Meta:
        db_table = "periods"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["board", "starts_at"], name="periods_of_board")]
        indexes = [
            # The rollover looks up what is due, among the periods of all boards.
            models.Index(fields=["starts_at"], condition=Q(first_seq=None), name="periods_to_begin"),
            models.Index(fields=["ends_at"], condition=Q(last_seq=None), name="periods_to_end"),
        ]

    def __str__(self) -> str:
        return f"period {self.number} of board {self.board_id}"


class BoardPosition(models.Model):
    """The newest event of a log that the standings of a board contain. No row: they have not been built yet."""

    pk = models.CompositePrimaryKey("board_id", "log")
    board = models.ForeignKey(Board, models.CASCADE, related_name="positions", db_index=False)
    log = models.CharField(max_length=64, db_collation="C")
    seq = models.BigIntegerField()

    class Meta:
        db_table = "board_positions"
        default_permissions = ()

    def __str__(self) -> str:
        return f"board {self.board_id} at event {self.seq}"


class BoardStanding(models.Model):
    """What the events of a user come to in one period of a board, as of the board's position.

    `key` and `tie` order all boards alike, the largest first, then by user id, descending: `key` is the score, negated
    where lower is better, and `tie` the negated `reached_seq`, or 0 on a board whose ties go by id.
    """

    pk = models.CompositePrimaryKey("board_id", "period", "user_id")
    # No foreign-key constraint: it would look at the board for every row.
    board = models.ForeignKey(Board, models.CASCADE, related_name="standings", db_index=False, db_constraint=False)
    period = models.IntegerField()
    user_id = models.CharField(max_length=255, db_collation="C")
    key = models.BigIntegerField()
    tie = models.BigIntegerField()
    reached_seq = models.BigIntegerField()  # the event with which the user reached the score
    hidden = models.BooleanField(default=False, db_default=False)  # blocked as of the board's position

    class Meta:
        db_table = "standings"
        default_permissions = ()
        constraints = [
            models.CheckConstraint(condition=Q(key__range=(-MAX_TOTAL, MAX_TOTAL)), name="standings_key_range"),
        ]
        indexes = [
            models.Index(
                fields=["board", "period", "key", "tie", "user_id"], condition=Q(hidden=False), name="standings_rank"
            )
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in period {self.period} of board {self.board_id}"


class BoardResult(models.Model):
    """The place of a user when a period closed. What happens later moves the standings, and not this."""

    id = models.BigAutoField(primary_key=True)  # the admin knows no composite keys
    board = models.ForeignKey(Board, models.CASCADE, related_name="results", db_index=False)
    period = models.IntegerField()
    place = models.IntegerField()  # from 1, of one user each
    user_id = models.CharField(max_length=255, db_collation="C")
    score = models.BigIntegerField()
    reached_seq = models.BigIntegerField()
    reward = models.BigIntegerField(default=0)  # points that the place earns
    reward_seq = models.BigIntegerField(null=True)  # the event that gave them
    refusal = models.CharField(max_length=64, default="", db_default="")  # the code of why they are not given

    class Meta:
        db_table = "results"
        default_permissions = ("view",)
        verbose_name = "result"
        constraints = [models.UniqueConstraint(fields=["board", "period", "place"], name="results_places")]
        indexes = [
            models.Index(
                fields=["board", "period"],
                condition=Q(reward__gt=0, reward_seq=None, refusal=""),
                name="results_to_reward",
            )
        ]

    def __str__(self) -> str:
        return f"place {self.place} in period {self.period} of board {self.board_id}"


class WebhookDelivery(models.Model):
    """The message that a period closed, and what became of it so far."""

    id = models.BigAutoField(primary_key=True)
    board = models.ForeignKey(Board, models.CASCADE, related_name="deliveries")
    period = models.IntegerField()
    url = models.CharField(max_length=500, default="")  # where the newest attempt went
    attempts = models.IntegerField(default=0)
    next_at = models.DateTimeField(null=True)  # None: delivered or given up
    last_status = models.IntegerField(null=True)
    last_error = models.CharField(max_length=200, default="")
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "webhook_deliveries"
        default_permissions = ("view", "change")
        verbose_name_plural = "webhook deliveries"
        constraints = [models.UniqueConstraint(fields=["board", "period"], name="webhook_deliveries_once")]
        indexes = [models.Index(fields=["next_at"], condition=Q(next_at__isnull=False), name="webhook_deliveries_due")]

    def __str__(self) -> str:
        return f"period {self.period} of board {self.board_id}"
