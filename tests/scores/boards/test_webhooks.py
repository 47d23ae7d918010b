"""A message says that a period closed, to who may hear it, until it is heard."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from scores.boards import definitions, webhooks
from scores.boards.addresses import is_reachable
from scores.boards.documents import parse
from scores.boards.webhooks import Sender, Undeliverable, target_of
from scores.exceptions import BoardInvalid
from scores.log.head import log
from scores.models import Board, BoardResult, Period, WebhookDelivery

SECRET = "sixteen characters"


class Receiver:
    """A server that notes what is posted to it, and answers as it is told."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.body = b""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posts.append((dict(self.headers), body))
                self.send_response(receiver.status)
                if receiver.status == 307:
                    self.send_header("Location", f"{receiver.url}/elsewhere")
                self.send_header("Content-Length", str(len(receiver.body)))
                self.end_headers()
                self.wfile.write(receiver.body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.01])
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@contextmanager
def dripping() -> Iterator[int]:
    """The port of a receiver that sends a byte of its head now and then, and never the last."""
    done = threading.Event()

    def drip(listener: socket.socket) -> None:
        taken, _ = listener.accept()
        with taken, suppress(OSError):
            taken.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not done.wait(0.05):
                taken.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=[listener])
        thread.start()
        yield listener.getsockname()[1]
        done.set()
        thread.join()


class Clock:
    def __init__(self) -> None:
        self.at = datetime.now(UTC) + timedelta(minutes=1)

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def private(settings: Any) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = True


@pytest.fixture(autouse=True)
def _tables(board: None) -> None:
    pass


def closed(url: str) -> WebhookDelivery:
    """A board with a closed period, and its message, which is due."""
    board = definitions.create(
        parse({"name": "week", "fold": "sum", "webhookUrl": "https://example.org/", "webhookSecret": SECRET})
    )
    Board.objects.filter(id=board.id).update(webhook_url=url)
    Period.objects.filter(board=board).update(closed_at=datetime.now(UTC), last_seq=0)
    rewarded = {"reward": 500, "reward_seq": 3}
    BoardResult.objects.create(board=board, period=1, place=1, user_id="änn", score=5, reached_seq=1, **rewarded)
    BoardResult.objects.create(board=board, period=1, place=2, user_id="bob", score=4, reached_seq=2)
    return WebhookDelivery.objects.create(board=board, period=1, next_at=datetime.now(UTC))


def test_a_message_is_signed(private: None, receiver: Receiver, clock: Clock) -> None:
    delivery = closed(f"{receiver.url}/hook?a=b")
    assert Sender(log, now=clock).send()
    assert not Sender(log, now=clock).send()
    ((headers, body),) = receiver.posts
    at, _, mac = headers["X-Leaderboard-Signature"].removeprefix("t=").partition(",v1=")
    assert mac == hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    assert int(at) == int(clock.at.timestamp())
    told = json.loads(body)
    assert headers["Idempotency-Key"] == told["id"] == f"close-{delivery.board_id}-1"
    assert (told["board"], told["period"]) == ("week", 1)
    assert told["closedAt"]
    assert told["results"] == [
        {"place": 1, "userId": "änn", "score": 5, "reward": 500},
        {"place": 2, "userId": "bob", "score": 4},
    ]
    delivery.refresh_from_db()
    assert (delivery.attempts, delivery.last_status, delivery.next_at) == (1, 204, None)
    assert delivery.delivered_at == clock.at


def test_a_message_waits_for_the_rewards_and_says_which_was_refused(
    private: None, receiver: Receiver, clock: Clock
) -> None:
    delivery = closed(receiver.url)
    winner = BoardResult.objects.filter(board=delivery.board, place=1)
    winner.update(reward_seq=None)
    assert not Sender(log, now=clock).send()

    winner.update(refusal="user_blocked")
    assert Sender(log, now=clock).send()

    ((_, body),) = receiver.posts
    assert json.loads(body)["results"][0] == {"place": 1, "userId": "änn", "score": 5, "refusal": "user_blocked"}


def test_a_message_is_sent_again_after_pauses_that_grow(private: None, receiver: Receiver, clock: Clock) -> None:
    delivery = closed(receiver.url)
    receiver.status = 503
    pauses = []
    for _ in range(webhooks.MAX_ATTEMPTS):
        assert Sender(log, now=clock).send()
        assert not Sender(log, now=clock).send()
        delivery.refresh_from_db()
        if delivery.next_at is not None:
            pauses.append((delivery.next_at - clock.at).total_seconds())
            clock.at = delivery.next_at
    assert delivery.next_at is None
    assert (delivery.attempts, delivery.last_status) == (webhooks.MAX_ATTEMPTS, 503)
    assert "503" in delivery.last_error
    assert len(receiver.posts) == webhooks.MAX_ATTEMPTS
    assert 7 <= pauses[0] <= 13
    assert pauses[3] > pauses[0]
    assert max(pauses) <= webhooks.MAX_PAUSE_S
    assert len({headers["Idempotency-Key"] for headers, _ in receiver.posts}) == 1
    # Then somebody mends the receiver, and asks for one more.
    receiver.status = 200
    assert webhooks.retry([delivery.id]) == 1
    assert Sender(log, now=clock).send()
    delivery.refresh_from_db()
    assert delivery.delivered_at is not None
    assert webhooks.retry([delivery.id]) == 0


def test_redirects_are_not_followed(private: None, receiver: Receiver, clock: Clock) -> None:
    delivery = closed(receiver.url)
    receiver.status = 307
    Sender(log, now=clock).send()
    delivery.refresh_from_db()
    assert len(receiver.posts) == 1
    assert (delivery.delivered_at, delivery.last_status) == (None, 307)


def test_a_long_answer_is_not_read_to_its_end(private: None, receiver: Receiver, clock: Clock) -> None:
    delivery = closed(receiver.url)
    receiver.body = b"x" * 8 * 1024 * 1024
    Sender(log, now=clock).send()
    delivery.refresh_from_db()
    assert delivery.delivered_at is not None


def test_a_receiver_that_never_ends_its_answer_is_cut_off(
    private: None, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TOTAL_S", 0.3)
    with dripping() as port:
        delivery = closed(f"http://127.0.0.1:{port}/")
        Sender(log, now=clock).send()
    delivery.refresh_from_db()
    assert delivery.delivered_at is None
    assert delivery.last_error
    assert delivery.next_at is not None


def test_who_dies_while_it_sends_leaves_it_to_the_next(private: None, receiver: Receiver, clock: Clock) -> None:
    delivery = closed(receiver.url)
    with log.connection.cursor() as cursor:
        cursor.execute(webhooks.CLAIM_SQL, [clock.at, webhooks.LEASE_S, clock.at])
    assert not Sender(log, now=clock).send()
    clock.at += timedelta(seconds=webhooks.LEASE_S)
    assert Sender(log, now=clock).send()
    delivery.refresh_from_db()
    assert (delivery.attempts, len(receiver.posts)) == (2, 1)


def test_without_leave_nothing_goes_to_this_host(receiver: Receiver, clock: Clock) -> None:
    delivery = closed(receiver.url.replace("http:", "https:"))
    Sender(log, now=clock).send()
    delivery.refresh_from_db()
    assert not receiver.posts
    assert "not public" in delivery.last_error
    Board.objects.update(webhook_url=receiver.url)
    clock.at += timedelta(days=1)
    Sender(log, now=clock).send()
    delivery.refresh_from_db()
    assert "https" in delivery.last_error


def test_a_board_without_a_webhook_any_more_is_given_up(clock: Clock) -> None:
    delivery = closed("")
    Sender(log, now=clock).send()
    delivery.refresh_from_db()
    assert delivery.next_at is None
    assert delivery.last_error


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "fd00:ec2::254", "ff02::1", "fec0::1"),
        *("::ffff:127.0.0.1", "::127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "240.0.0.1"),
        "255.255.255.255",
    ],
)
def test_what_is_not_public_is_not_reached(address: str) -> None:
    assert not is_reachable(address)
    with pytest.raises(Undeliverable):
        target_of("https://example.org/", lambda host, port: ["93.184.215.14", address])


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"])
def test_what_is_public_is_reached(address: str) -> None:
    assert target_of("https://example.org/", lambda host, port: [address]).address == address


HERE = [
    "127.0.0.1",
    "10.0.0.1",
    "[::1]",
    "[fd00::1]",
    "[::ffff:10.0.0.1]",
    "169.254.169.254",
    "localhost",
    "a.localhost",
]
HERE += ["LOCALHOST.", "127.1", "2130706433", "0x7f.1"]  # which resolvers take for such, too


@pytest.mark.parametrize("host", HERE)
def test_a_host_that_is_not_public_is_a_mistake_at_once(host: str, settings: Any) -> None:
    fields = {"name": "week", "fold": "sum", "webhookUrl": f"https://{host}:8443/x", "webhookSecret": SECRET}

    with pytest.raises(BoardInvalid) as error:
        parse(fields)

    assert [(mistake.field, mistake.code) for mistake in error.value.mistakes] == [("webhookUrl", "not_public")]
    settings.WEBHOOK_ALLOW_PRIVATE = True
    assert parse(fields).webhook_url == fields["webhookUrl"]


@pytest.mark.parametrize(
    "host", ["93.184.215.14", "[2606:2800:21f:cb07:6820:80da:af6b:8b2c]", "host.internal", "localhost.example"]
)
def test_a_name_is_judged_when_it_is_resolved(host: str) -> None:
    fields = {"name": "week", "fold": "sum", "webhookUrl": f"https://{host}/x", "webhookSecret": SECRET}

    assert parse(fields).webhook_url == fields["webhookUrl"]


def test_the_connection_goes_to_the_address_that_was_judged(private: None, receiver: Receiver, clock: Clock) -> None:
    """A name that resolves to something else the second time, or to nothing, is not asked a second time."""
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["192.0.2.1"]

    delivery = closed(receiver.url.replace("127.0.0.1", "rebinding.invalid"))
    Sender(log, now=clock, resolved=rebinding).send()
    delivery.refresh_from_db()
    assert delivery.delivered_at is not None
    assert asked == ["rebinding.invalid"]
    assert receiver.posts[0][0]["Host"].startswith("rebinding.invalid")


def test_over_tls_the_certificate_has_to_be_good(
    private: None, receiver: Receiver, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed("receiver.example", tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    port = receiver.server.server_port
    delivery = closed(f"https://receiver.example:{port}/")
    sender = Sender(log, now=clock, resolved=lambda host, port: ["127.0.0.1"])
    sender.send()
    delivery.refresh_from_db()
    assert "certificate" in delivery.last_error
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    Board.objects.update(webhook_url=f"https://other.example:{port}/")
    clock.at += timedelta(hours=1)
    sender.send()
    delivery.refresh_from_db()
    assert "certificate" in delivery.last_error
    Board.objects.update(webhook_url=f"https://receiver.example:{port}/")
    clock.at += timedelta(hours=1)
    sender.send()
    delivery.refresh_from_db()
    assert delivery.delivered_at is not None
    assert len(receiver.posts) == 1


def self_signed(name: str, folder: Path) -> Path:
    """A key and a certificate for it in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(*kinds) + certificate.public_bytes(serialization.Encoding.PEM))
    return file


# The receivers of docs/boards.md


def example(language: str) -> str:
    text = (Path(__file__).parents[3] / "docs" / "boards.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(found)


GENUINE = b'{"board":"week"}'


def headers() -> list[str]:
    """One that is genuine, one of another secret, one that is old."""
    now = int(time.time())
    return [
        webhooks.signature(SECRET, now, GENUINE),
        webhooks.signature("another", now, GENUINE),
        webhooks.signature(SECRET, now - 3600, GENUINE),
    ]


def test_the_example_in_python_knows_what_is_genuine() -> None:
    scope: dict[str, Any] = {}
    exec(example("python"), scope)
    assert [scope["is_genuine"](SECRET, header, GENUINE) for header in headers()] == [True, False, False]


def test_the_example_in_javascript_knows_what_is_genuine(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    calls = [f"isGenuine({json.dumps(SECRET)}, {json.dumps(h)}, Buffer.from({GENUINE.decode()!r}))" for h in headers()]
    script = tmp_path / "receiver.mjs"
    script.write_text(f"{example('js')}\nconsole.log(JSON.stringify([{', '.join(calls)}]));\n", encoding="utf-8")
    done = subprocess.run([node, script], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(done.stdout) == [True, False, False]
