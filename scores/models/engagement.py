"""The rollup of engagement: what the log says about when people play, in few rows. See `scores.engagement`."""

from __future__ import annotations

from django.db import models


class EngagementPosition(models.Model):
    """The newest event of a log that the rollup contains. No row: the fold has not begun.

    The rows of the other tables move with it, in the same transaction.
    """

    log = models.CharField(max_length=64, primary_key=True, db_collation="C")
    epoch = models.UUIDField()
    seq = models.BigIntegerField()
    mark = models.BigIntegerField()  # of that event: another one may have its seq after the database was put back
    at = models.DateTimeField(null=True)  # the newest moment of an event so far. None: there was none

    class Meta:
        db_table = "engagement_position"
        default_permissions = ()
        permissions = [("view_engagement", "Can view engagement")]

    def __str__(self) -> str:
        return f"engagement at event {self.seq}"


class EngagementHour(models.Model):
    """What was played in an hour, by action: "" are points without an action, and the scores of streams."""

    pk = models.CompositePrimaryKey("hour", "action")
    hour = models.DateTimeField()  # its beginning
    action = models.CharField(max_length=64, db_collation="C")
    increments = models.BigIntegerField()
    # Without an end: 1,024 increments of the most points there are would not fit into a bigint, and stop the fold.
    points = models.DecimalField(max_digits=38, decimal_places=0)
    scores = models.BigIntegerField()
    voids = models.BigIntegerField()  # written in this hour, whenever the event was
    voided = models.DecimalField(max_digits=38, decimal_places=0)  # points that voids of this hour took back

    class Meta:
        db_table = "engagement_hours"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.action or 'points'} from {self.hour}"


class EngagementPlayer(models.Model):
    """Since when somebody plays. The one table here with a row per person."""

    user_id = models.CharField(max_length=255, primary_key=True, db_collation="C")
    first_day = models.DateField()
    last_day = models.DateField()

    class Meta:
        db_table = "engagement_players"
        default_permissions = ()

    def __str__(self) -> str:
        return self.user_id


class EngagementDay(models.Model):
    """How many played on a day."""

    day = models.DateField(primary_key=True)
    players = models.BigIntegerField()
    new_players = models.BigIntegerField()  # whose first day it was

    class Meta:
        db_table = "engagement_days"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.players} on {self.day}"


class EngagementWeek(models.Model):
    """How many of those who first played in the week of `cohort` played in the week of `week`: both are Mondays."""

    pk = models.CompositePrimaryKey("week", "cohort")
    week = models.DateField()
    cohort = models.DateField()
    players = models.BigIntegerField()

    class Meta:
        db_table = "engagement_weeks"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.players} of {self.cohort} in {self.week}"


class EngagementSockets(models.Model):
    """The most sockets that were open at once in an hour, of the samples that were taken. Not from the log."""

    hour = models.DateTimeField(primary_key=True)
    peak = models.BigIntegerField()
    samples = models.IntegerField()  # 60 in a whole hour

    class Meta:
        db_table = "engagement_sockets"
        default_permissions = ()
        verbose_name_plural = "engagement sockets"

    def __str__(self) -> str:
        return f"{self.peak} from {self.hour}"
