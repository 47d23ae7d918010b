"""Who may not come back: the names of deleted accounts, and the tokens of services."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class EndedAccount(models.Model):
    """The name of an account that was deleted. Nobody gets it again, and its tokens are refused.

    The score of a name outlives the account, so a second owner of the name would get the score of the first. Triggers
    on the accounts fill this table: see migrations 0008 and 0010.
    """

    username = models.CharField(max_length=150, primary_key=True, db_collation="C")
    ended_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "ended_accounts"

    def __str__(self) -> str:
        return self.username


class ServiceToken(models.Model):
    """A token of a service, such as a game server. A service may have several, so that one can replace another.

    The token is signed, so the row holds no secret and no hash of one. The row decides whether the token is still good:
    every transaction that writes for it asks. A token without a row is refused, so rows are kept for ever.
    """

    # The visible start of the token, which tells it apart, and the claim `jti`. Random: a number would name another
    # token after the database was put back.
    prefix = models.CharField(max_length=32, primary_key=True, db_collation="C")
    name = models.CharField("service", max_length=64)
    scopes = models.CharField(max_length=255)  # separated by spaces, as in the claim
    created_at = models.DateTimeField("created", db_default=Now())
    created_by = models.CharField(max_length=150)
    expires_at = models.DateTimeField("expires")  # a rotation may bring it forward
    last_used_at = models.DateTimeField("last used", null=True, blank=True)  # at most two minutes behind
    revoked_at = models.DateTimeField("revoked", null=True, blank=True)

    class Meta:
        db_table = "service_tokens"
        default_permissions = ("add", "change", "view")  # to change is to revoke and rotate; none is deleted
        indexes = [models.Index(fields=["-created_at"], name="service_tokens_newest")]

    def __str__(self) -> str:
        return f"{self.prefix} of {self.name}"
