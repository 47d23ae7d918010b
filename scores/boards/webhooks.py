"""Webhooks: a signed message to the address of a board says that a period closed, until the receiver has taken it.

An address is somebody's input, and the server can reach more than they can. So the name is resolved once, the addresses
are judged, and the connection goes to the very address that was judged: a name that resolves to something else a moment
later leads nowhere else. Redirects are answers like any other that is not 2xx.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.db.models.functions import Now

from scores.log.head import Log
from scores.models import Board, BoardResult, Period, WebhookDelivery

from .addresses import is_reachable
from .documents import text_of

logger = logging.getLogger(__name__)

CONNECT_S, TOTAL_S = 5.0, 10.0
MAX_RESPONSE = 64 * 1024  # bytes that are read of an answer
MAX_ATTEMPTS = 20  # some five days, at these pauses
FIRST_PAUSE_S, MAX_PAUSE_S = 10.0, 24 * 3600.0
LEASE_S = 60.0  # while one process sends, no other does; whoever dies meanwhile leaves it to the next after that
# Not before all rewards of the period were given or refused: the message has which.
CLAIM_SQL = """
    UPDATE webhook_deliveries SET next_at = %s + make_interval(secs => %s), attempts = attempts + 1
    WHERE id = (
        SELECT id FROM webhook_deliveries d WHERE next_at <= %s AND NOT EXISTS (
            SELECT FROM results r WHERE r.board_id = d.board_id AND r.period = d.period
              AND r.reward > 0 AND r.reward_seq IS NULL AND r.refusal = ''
        ) ORDER BY next_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING id
"""
Resolve = Callable[[str, int], Sequence[str]]


class Undeliverable(Exception):  # noqa: N818  names what happened
    """The message was not taken; `status` is the receiver's, if there was one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Target(NamedTuple):
    """Where a message goes: the URL, and the address that its name has now and that may be reached."""

    parts: SplitResult
    host: str
    port: int
    address: str


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host. Raises `OSError`."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def target_of(url: str, resolved: Resolve = resolve) -> Target:
    """Raises `Undeliverable` for an address that must not be reached."""
    is_free = settings.WEBHOOK_ALLOW_PRIVATE
    parts = urlsplit(url)
    if parts.scheme not in (("https", "http") if is_free else ("https",)) or not parts.hostname:
        raise Undeliverable("The address is not https://.")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = resolved(parts.hostname, port)
    except (OSError, UnicodeError) as error:
        raise Undeliverable(f"The name does not resolve: {error}") from error
    # All of them: a name with a public and a private address is no receiver's, it is somebody's attempt.
    if not addresses or not (is_free or all(is_reachable(address) for address in addresses)):
        raise Undeliverable("The name leads to an address that is not public.")
    return Target(parts, parts.hostname, port, addresses[0])


def signature(secret: str, at: int, body: bytes) -> str:
    """The header that proves who sent `body`, and when."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={mac}"


def post(target: Target, headers: dict[str, str], body: bytes) -> int:
    """Post to the address of the target, within `TOTAL_S` from the connection on; returns the status.

    Raises `Undeliverable`.
    """
    path = target.parts.path or "/"
    if target.parts.query:
        path += f"?{target.parts.query}"
    connection = HTTPConnection(target.host, target.port)
    try:
        raw = socket.create_connection((target.address, target.port), CONNECT_S)
        with raw, _cut_off(raw) as is_over, closing(_secured(raw, target)) as connection.sock:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            response.read(MAX_RESPONSE)
            if is_over.is_set():  # to the parser, it looks like a message that ended
                raise TimeoutError("The receiver did not answer in time.")
            return response.status
    except ssl.SSLCertVerificationError as error:
        raise Undeliverable(f"The certificate is not good: {error.verify_message}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise Undeliverable(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _secured(raw: socket.socket, target: Target) -> socket.socket:
    """The certificate has to be that of the name, whatever address was connected to."""
    return raw if target.parts.scheme == "http" else tls().wrap_socket(raw, server_hostname=target.host)


@contextmanager
def _cut_off(raw: socket.socket) -> Iterator[threading.Event]:
    """Shut the connection down after `TOTAL_S`: a timeout of its own begins anew with each byte of a slow receiver.

    The event says that it came to that.
    """
    raw.settimeout(TOTAL_S)
    is_over = threading.Event()
    with raw.dup() as same:  # since TLS takes the descriptor of `raw` away

        def shut() -> None:
            is_over.set()
            with suppress(OSError):  # it has ended by itself
                same.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(TOTAL_S, shut)
        timer.daemon = True
        timer.start()
        try:
            yield is_over
        finally:
            timer.cancel()
            timer.join()


def tls() -> ssl.SSLContext:
    """Certificates of the system, or of SSL_CERT_FILE."""
    return ssl.create_default_context()


def message(delivery: WebhookDelivery) -> bytes:
    """What happened, as JSON. The same each time, so that a receiver may compare."""
    board, number = delivery.board, delivery.period
    period = Period.objects.get(board=board, number=number)
    results = BoardResult.objects.filter(board=board, period=number).order_by("place")
    body = {
        "id": event_id(delivery),
        "board": board.name,
        "period": number,
        "startsAt": text_of(period.starts_at),
        "endsAt": text_of(period.ends_at),
        "closedAt": text_of(period.closed_at),
        "results": [shown(result) for result in results],
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def shown(result: BoardResult) -> dict[str, object]:
    """A result as answers and messages have it: with the reward, or why there is none."""
    row: dict[str, object] = {"place": result.place, "userId": result.user_id, "score": result.score}
    if result.refusal:
        return row | {"refusal": result.refusal}
    return row | {"reward": result.reward} if result.reward else row


def event_id(delivery: WebhookDelivery) -> str:
    """The same for each attempt, and no other message's."""
    return f"close-{delivery.board_id}-{delivery.period}"


class Sender:
    """Sends what is due, one message at a time, in a thread that nothing waits for."""

    def __init__(
        self, log: Log, *, now: Callable[[], datetime] = lambda: datetime.now(UTC), resolved: Resolve = resolve
    ) -> None:
        self._log = log
        self._now = now
        self._resolve = resolved

    def send(self) -> bool:
        """A step: one message. Returns whether there was one."""
        now = self._now()
        with self._log.connection.cursor() as cursor:
            cursor.execute(CLAIM_SQL, [now, LEASE_S, now])
            row = cursor.fetchone()
        if row is None:
            return False
        delivery = WebhookDelivery.objects.using(self._log.alias).select_related("board").filter(id=row[0]).first()
        if delivery is not None:
            self._attempt(delivery)
        return True

    def _attempt(self, delivery: WebhookDelivery) -> None:
        board = delivery.board
        delivery.url, delivery.last_status, delivery.last_error = board.webhook_url, None, ""
        try:
            delivery.last_status = self._post(delivery, board)
            delivery.delivered_at, delivery.next_at = self._now(), None
        except Undeliverable as error:
            delivery.last_status, delivery.last_error = error.status, str(error)[:200]
            delivery.next_at = self._next_at(delivery.attempts) if board.webhook_url else None
            level = logging.INFO if delivery.next_at else logging.WARNING
            logger.log(
                level, "Board %s, period %d: the webhook failed: %s", board.name, delivery.period, delivery.last_error
            )
        fields = ["url", "last_status", "last_error", "delivered_at", "next_at"]
        WebhookDelivery.objects.using(self._log.alias).filter(id=delivery.id).update(
            **{field: getattr(delivery, field) for field in fields}
        )

    def _post(self, delivery: WebhookDelivery, board: Board) -> int:
        if not board.webhook_url:
            raise Undeliverable("The board has no webhook any more.")
        target = target_of(board.webhook_url, self._resolve)
        body = message(delivery)
        at = int(self._now().timestamp())
        status = post(
            target,
            {
                "Content-Type": "application/json",
                "User-Agent": "leaderboard-webhook/1",
                "Connection": "close",
                "Idempotency-Key": event_id(delivery),
                "X-Leaderboard-Signature": signature(board.webhook_secret, at, body),
            },
            body,
        )
        if not 200 <= status < 300:
            told = "redirects, which are not followed" if 300 <= status < 400 else f"answered {status}"
            raise Undeliverable(f"The receiver {told}.", status)
        return status

    def _next_at(self, attempts: int) -> datetime | None:
        """After a pause that doubles, by up to a quarter more or less at random; `None`: it was the last time."""
        if attempts >= MAX_ATTEMPTS:
            return None
        pause = min(FIRST_PAUSE_S * 2 ** (attempts - 1), MAX_PAUSE_S)
        return self._now() + timedelta(seconds=min(pause * random.uniform(0.75, 1.25), MAX_PAUSE_S))  # noqa: S311


def retry(deliveries: Sequence[int]) -> int:
    """Send these again, from the first attempt on, if they were not delivered. Returns how many."""
    waiting = WebhookDelivery.objects.filter(id__in=deliveries, delivered_at=None)
    return waiting.update(attempts=0, next_at=Now())
