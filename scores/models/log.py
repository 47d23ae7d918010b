"""The source of truth: the log of events, the totals they add up to, and the users who are hidden from the board."""

from __future__ import annotations

import uuid

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now

# A ZSET score is an IEEE 754 double: beyond this, neighbouring integers become one.
MAX_TOTAL = 2**53 - 1
ACTION_NAME = "[A-Za-z0-9_.:-]{1,64}"


class Leaderboard(models.Model):
    """One row per board: the head of its log, and the lock that gives the log one order.

    A transaction that changes scores first takes this row `FOR UPDATE`, so `seq` has no gaps, and a reader that sees
    event n sees every event before it.
    """

    name = models.CharField(max_length=64, primary_key=True)
    epoch = models.UUIDField(default=uuid.uuid4)  # identifies the log: a new value when the log starts again
    seq = models.BigIntegerField(default=0)  # number of the newest event
    members = models.BigIntegerField(default=0)  # users on the board: kept here, because counting rows is O(n)
    at = models.DateTimeField(null=True)  # when the newest event was written: never goes back. None: by no clock yet
    next_boundary = models.DateTimeField(null=True)  # when the next period of a board starts or ends. None: none does
    calendar = models.BigIntegerField(default=0, db_default=0)  # raised with every change of boards and periods

    class Meta:
        db_table = "leaderboards"
        permissions = [("rebuild_leaderboard", "Can rebuild the copy in Redis")]

    def __str__(self) -> str:
        return f"{self.name} at event {self.seq}"


class UserScore(models.Model):
    """A user's running total as of their newest event. Never edited directly: see `services`."""

    # Byte order, as Redis orders members with equal scores.
    user_id = models.CharField(max_length=255, primary_key=True, db_collation="C")
    score = models.BigIntegerField(default=0, db_default=0)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "user_scores"
        permissions = [  # for the moderations of scores/admin; migration 0004 gives them to groups
            ("correct_userscore", "Can correct scores"),
            ("block_userscore", "Can block and unblock users"),
            ("export_userscore", "Can export the list of users"),
        ]
        constraints = [
            models.CheckConstraint(condition=models.Q(score__range=(0, MAX_TOTAL)), name="user_scores_score_range")
        ]
        indexes = [models.Index(models.F("score").desc(), models.F("user_id").desc(), name="user_scores_rank")]

    def __str__(self) -> str:
        return self.user_id


class Block(models.Model):
    """A user whom a moderator blocked from the board. The total stays in `user_scores`, hidden, until the unblock.

    A separate table, because external readers rely on the columns of `user_scores`, and blocked users are few.
    """

    user_id = models.CharField(max_length=255, primary_key=True, db_collation="C")
    seq = models.BigIntegerField()  # of the event that records who blocked the user, when and why

    class Meta:
        db_table = "blocks"

    def __str__(self) -> str:
        return self.user_id


class Action(models.Model):
    """Something a player may do for points. A client sends its name instead of a number of points of its choice.

    Every transaction reads it again, so a change applies from the next one on. Events keep the name; no row refers to
    this one.
    """

    name = models.CharField(
        max_length=64,
        primary_key=True,
        db_collation="C",
        validators=[RegexValidator(rf"\A{ACTION_NAME}\Z", "1 to 64 of a-z, A-Z, 0-9 and _ . : -")],
        help_text="What clients send.",
    )
    points = models.BigIntegerField(validators=[MinValueValidator(1), MaxValueValidator(MAX_TOTAL)])
    cooldown_s = models.PositiveIntegerField(
        "cooldown", default=0, help_text="Seconds from one to the next of the same user."
    )
    daily_cap = models.PositiveIntegerField(
        null=True, blank=True, help_text="How often a user may in a day of UTC. Empty: as often as they like."
    )
    enabled = models.BooleanField(default=True)
    starts_at = models.DateTimeField("from", null=True, blank=True, help_text="Empty: always.")
    ends_at = models.DateTimeField(
        "until", null=True, blank=True, help_text="Empty: for ever. Not at that moment itself."
    )
    services_only = models.BooleanField(
        "game servers only", default=False, db_default=False, help_text="Players cannot take it by themselves."
    )

    class Meta:
        db_table = "actions"
        constraints = [
            models.CheckConstraint(condition=models.Q(points__range=(1, MAX_TOTAL)), name="actions_points_range")
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            sentence = "This is not after the beginning: the action could never be taken."
            raise ValidationError({"ends_at": sentence})


class ScoreEvent(models.Model):
    """One change of one score. Rows are appended, never updated or deleted; totals and copy are folds of them."""

    class Kind(models.TextChoices):
        INCREMENT = "increment"
        CORRECTION = "correction"
        BLOCK = "block"
        UNBLOCK = "unblock"
        SCORE = "score"  # of a stream of its own: touches no total
        VOID = "void"  # takes back an increment or a score

    seq = models.BigIntegerField(primary_key=True)
    # No foreign-key constraint: the same transaction writes the total. No separate index: the unique constraint below
    # and `score_events_of_user` serve every look-up.
    user = models.ForeignKey(UserScore, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="events")
    kind = models.CharField(max_length=10, choices=Kind)
    # What the event added to the total: negative in what lowers it. In a score: the score itself.
    points = models.BigIntegerField()
    total = models.BigIntegerField()  # the user's total after the event; 0 if they have none
    idempotency_key = models.CharField(max_length=255, null=True, db_collation="C")  # noqa: DJ001  NULL is never equal
    actor = models.CharField(max_length=255, default="", db_default="")  # who made the change, if not the user
    reason = models.TextField(default="", db_default="")
    action = models.CharField(max_length=64, null=True, db_collation="C")  # noqa: DJ001  NULL: an increment of points
    # For people and periods; `seq` gives the order. Never goes back, but in events of version 0.2 and earlier.
    created_at = models.DateTimeField(db_default=Now())
    # An event with a stream changes no total and nothing on the default board: a score of that stream, its void, or,
    # with the stream "", a block or unblock of a user who has no total.
    stream = models.CharField(max_length=64, null=True, db_collation="C")  # noqa: DJ001  NULL: the default points
    voids = models.BigIntegerField(null=True)  # seq of the event that a void takes back
    hidden = models.BooleanField(null=True)  # true in a void: the user was blocked, and the total is not shown
    metadata = models.TextField(null=True)  # noqa: DJ001  JSON, at most 1 KiB

    class Meta:
        db_table = "score_events"
        permissions = [("void_scoreevent", "Can void events")]
        constraints = [
            # Partial, so that increments without a key, the common case, maintain one index less.
            models.UniqueConstraint(
                "user",
                "idempotency_key",
                condition=models.Q(idempotency_key__isnull=False),
                name="score_events_idempotency_key",
            ),
            # An event is taken back at most once.
            models.UniqueConstraint(
                fields=["voids"], condition=models.Q(voids__isnull=False), name="score_events_voids"
            ),
        ]
        indexes = [
            models.Index(fields=["user", "-seq"], name="score_events_of_user"),
            # Partial as well: increments without an action pay nothing for cooldowns and caps.
            models.Index(
                fields=["user", "action", "created_at"],
                condition=models.Q(action__isnull=False),
                name="score_events_of_action",
            ),
            # Since when a user's total counts anew, and whether they are hidden, without reading all their events.
            models.Index(
                fields=["user", "seq"],
                condition=models.Q(kind__in=["correction", "block", "unblock"]),
                name="score_events_moderated",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.seq}: {self.kind} {self.points:+d} for {self.user_id}"
