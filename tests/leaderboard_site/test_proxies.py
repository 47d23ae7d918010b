"""The example configurations of proxies, with the real programs: what people do through them, and who they are behind them."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.contrib.auth.models import User
from websockets.asyncio.client import connect
from websockets.typing import Origin

from tests.conftest import TokenFor, database_url, wait_until_noticed
from tests.polling import until
from tests.programs import needs
from tools.programs import environment, program
from tools.servers import ROOT, Server, free_port

pytestmark = [pytest.mark.slow, pytest.mark.uvicorn("applies TRUSTED_PROXIES")]

HOST = "scores.example.org"
HERE = "127.0.0.2"  # a client's address, which is not the proxy's
EXAMPLES = [
    "nginx/leaderboard.conf",
    "nginx/below-a-path.conf",
    "caddy/Caddyfile",
    "caddy/below-a-path.Caddyfile",
    "haproxy/haproxy.cfg",
    "haproxy/below-a-path.cfg",
]
NGINX = """
user root;
daemon off;
pid {folder}/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/example;
}}
"""
CADDY = "{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n"


@dataclass
class Proxied:
    """A service as it is found behind a proxy."""

    server: Server
    port: int  # of the proxy, for TLS
    prefix: str

    @property
    def origin(self) -> str:
        return f"https://{HOST}:{self.port}"

    def answers(self) -> bool:
        with self.client() as client:
            return client.get(f"{self.prefix}/healthz/ready", extensions=NAMED).status_code == 200

    def client(self) -> httpx.Client:
        headers = {"Host": f"{HOST}:{self.port}", "X-Forwarded-For": "192.0.2.66"}  # which this client made up
        transport = httpx.HTTPTransport(local_address=HERE, verify=False)
        return httpx.Client(transport=transport, base_url=f"https://127.0.0.1:{self.port}", headers=headers, timeout=30)


# httpx would name 127.0.0.1 in the handshake, and Caddy has no certificate for that.
NAMED = {"sni_hostname": HOST}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate and key in one file, as HAProxy wants them; the others take it for both."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture(scope="module")
def at_the_root(_stores: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"DATABASE_URL": database_url(), "ALLOWED_HOSTS": f"127.0.0.1,{HOST}", "TRUSTED_PROXIES": "127.0.0.1"}
    server = Server(log=tmp_path_factory.mktemp("at_the_root") / "log", env=env).start()
    yield server
    server.stop()


@pytest.fixture(
    scope="module",
    params=[pytest.param(example, marks=needs(example.partition("/")[0])) for example in EXAMPLES],
)
def _proxied(
    request: pytest.FixtureRequest,
    at_the_root: Server,
    _below_a_path: Server,
    certificate: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxied]:
    example: str = request.param
    is_below = "below-a-path" in example
    server, port = (_below_a_path if is_below else at_the_root), free_port()
    name = example.partition("/")[0]
    folder = tmp_path_factory.mktemp(name)
    server.resume()  # or HAProxy finds nobody at home
    command = prepared(name, folder, adapted((ROOT / "deploy" / example).read_text(), server.port, port, certificate))
    env = environment() | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or accepts(port))
        assert process.poll() is None, (folder / "log").read_text()
        proxied = Proxied(server, port, "/leaderboard" if is_below else "")
        until(proxied.answers)
        yield proxied
    finally:
        process.terminate()
        process.wait(30)
        if is_below:
            server.pause()  # not before: HAProxy would find that it does not answer, and refuse for a while


def adapted(example: str, server_port: int, port: int, certificate: Path) -> str:
    """The example with ports and a certificate that a test can have; nothing else of it changes."""
    changes = [
        (r"127\.0\.0\.1:8000", f"127.0.0.1:{server_port}"),
        (r"listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        (r"listen 80;", f"listen 127.0.0.1:{free_port()};"),
        (r"bind :443", f"bind 127.0.0.1:{port}"),
        (r"bind :80", f"bind 127.0.0.1:{free_port()}"),
        (r"/etc/ssl/\S+\.(pem|key)\b", str(certificate)),
        (r"^scores\.example\.org \{", f"https://{HOST}:{port} {{\n\ttls {certificate} {certificate}"),
    ]
    for pattern, change in changes:
        example = re.sub(pattern, change, example, flags=re.MULTILINE)
    return example


def prepared(name: str, folder: Path, example: str) -> list[str]:
    """The command that runs the example in the foreground."""
    path = program(name)
    assert path is not None
    file = folder / "example"
    file.write_text(CADDY.format() + example if name == "caddy" else example)
    if name == "nginx":
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
        return [path, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    if name == "caddy":
        return [path, "run", "--config", str(file), "--adapter", "caddyfile"]
    return [path, "-db", "-f", str(file)]


def accepts(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), timeout=1)):
        return True
    return False


@pytest.fixture
def proxied(_proxied: Proxied, board: None) -> Proxied:
    wait_until_noticed(_proxied.server)
    return _proxied


def test_a_player_sees_the_page_scores_and_gets_the_frame(proxied: Proxied, token_for: TokenFor) -> None:
    with proxied.client() as client:
        page = client.get(f"{proxied.prefix}/", extensions=NAMED)
        files = re.findall(r'(?:src|href)="(/[^"]*/static/[^"]*|/static/[^"]*)"', page.text)
        served = {file: client.get(file, extensions=NAMED).status_code for file in files}
        added = client.post(
            f"{proxied.prefix}/api/v1/scores/increment",
            json={"points": 7},
            headers={"Authorization": f"Bearer {token_for('ann')}"},
            extensions=NAMED,
        )

    assert page.status_code == 200
    assert len(served) > 2
    assert set(served.values()) == {200}
    assert added.json() == {"success": True, "newScore": 7}
    assert asyncio.run(first_entries(proxied)) == [{"userId": "ann", "score": 7}]


async def first_entries(proxied: Proxied) -> list[dict[str, object]]:
    """Those of the first board with any.

    The library's client for threads reads and writes at the same time, and OpenSSL may then lose what is written
    (https://github.com/python/cpython/issues/143756): one handshake in a thousand got no answer.
    """
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    line = socket.create_connection(("127.0.0.1", proxied.port), source_address=(HERE, 0))
    address = f"wss://{HOST}:{proxied.port}{proxied.prefix}/ws/leaderboard/"
    async with (
        asyncio.timeout(30),
        connect(address, sock=line, ssl=trusting, origin=Origin(proxied.origin)) as websocket,
    ):
        async for frame in websocket:
            if entries := json.loads(frame)["leaderboard"]:
                return list(entries)
    raise AssertionError("the socket ended")


def test_an_administrator_signs_in_and_a_failure_is_told_with_the_clients_address(proxied: Proxied) -> None:
    User.objects.create_superuser("ada", password="notes on the engine")
    index = f"{proxied.prefix}/admin/"
    before = len(proxied.server.log.read_text())

    with proxied.client() as client:
        asked = client.get(index, extensions=NAMED)
        form = client.get(asked.headers["Location"], extensions=NAMED)
        token = re.findall(r'name="csrfmiddlewaretoken" value="([^"]*)"', form.text)[0]
        cookies = "; ".join(cookie.partition(";")[0] for cookie in form.headers.get_list("Set-Cookie"))
        headers = {"Origin": proxied.origin, "Cookie": cookies}
        fields = {"username": "ada", "csrfmiddlewaretoken": token}
        wrong, right = (
            client.post(asked.headers["Location"], data=fields | {"password": p}, headers=headers, extensions=NAMED)
            for p in ("wrong", "notes on the engine")
        )

    assert wrong.status_code == 200  # the form again
    assert (right.status_code, right.headers["Location"]) == (302, index)
    until(lambda: f"A sign-in as 'ada' from {HERE} failed" in proxied.server.log.read_text()[before:])
    assert "TRUSTED_PROXIES" not in proxied.server.log.read_text()


def test_every_example_is_tried() -> None:
    folders = {example.partition("/")[0] for example in EXAMPLES}
    files = {path.relative_to(ROOT / "deploy") for folder in folders for path in (ROOT / "deploy" / folder).iterdir()}

    assert files == set(map(Path, EXAMPLES))
