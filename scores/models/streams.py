"""What became of entries that came through a broker and were refused."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class QueuedRefusal(models.Model):
    """The newest refusal of an entry, by its key. Kept for a day: who asks what became of it is told.

    Its message may come again, since it is acknowledged afterwards: it must not be recorded then because a cooldown has
    ended meanwhile.
    """

    user_id = models.CharField(max_length=255, db_collation="C")
    key = models.CharField(max_length=255, db_collation="C")
    place = models.CharField(max_length=300, db_default="")  # of its message in the broker, if it has one to tell it by
    code = models.CharField(max_length=64)
    detail = models.TextField()
    retry_after_s = models.IntegerField(null=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "queued_refusals"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["user_id", "key"], name="queued_refusals_key")]
        indexes = [models.Index(fields=["at"], name="queued_refusals_at")]

    def __str__(self) -> str:
        return f"{self.user_id} {self.key}: {self.code}"
