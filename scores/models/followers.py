"""Who follows the log, and how far it is."""

from __future__ import annotations

from django.db import models


class Follower(models.Model):
    """Something that follows the log for all processes together: one of them, the holder, has a lease and renews it.

    A row and not a session's lock, which a transaction pooler strands. See `log.lease`.
    """

    name = models.CharField(max_length=64, primary_key=True, db_collation="C")
    epoch = models.UUIDField(null=True)  # of the log that `seq` belongs to
    seq = models.BigIntegerField(default=0, db_default=0)  # the newest event that is done; moves by compare-and-set
    # Of that event, where the follower asks for it: another one may have its seq after the database was put back.
    mark = models.BigIntegerField(default=0, db_default=0)
    holder = models.CharField(max_length=64, default="", db_default="")  # random; each holder makes its own
    is_dedicated = models.BooleanField(default=False, db_default=False)  # held by `manage.py follow`, not by a worker
    lease_until = models.DateTimeField(null=True)  # by the database's clock

    class Meta:
        db_table = "followers"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} at event {self.seq}"
