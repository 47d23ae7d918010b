"""The production server: uvicorn, with all its options that matter here. `python -m leaderboard_site.server`

All configuration is in the environment; all missing or wrong variables are reported at once. This module imports
nothing from `local`.
"""

from __future__ import annotations

import atexit
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Network
from types import FrameType

import django
import uvicorn
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from uvicorn.supervisors import Multiprocess

from leaderboard_site.conf.env import Reader

from .child import Child


def main() -> None:
    set_up()
    refuse_taken_port(settings.HOST, settings.PORT)
    serve()


def set_up() -> None:
    """Loads settings and apps, or exits with status 1 and a list of all mistakes in the environment."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leaderboard_site.settings")
    make_room_for_metrics()
    try:
        django.setup()
    except ImproperlyConfigured as error:
        sys.exit(str(error))


def make_room_for_metrics() -> None:
    """If METRICS_TOKEN is set, creates the folder where the processes keep their metrics, so that each can add them up.

    Exits with status 1 if there is no place for it, as in a container whose file system is read-only. It runs before the settings are read: prometheus_client looks for the folder once, on import. Workers inherit it.
    """
    if not Reader().text("METRICS_TOKEN", "") or "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        return
    try:
        folder = tempfile.mkdtemp(prefix="leaderboard-metrics-")
    except OSError as error:
        sys.exit(
            f"METRICS_TOKEN needs a temporary folder that can be written to: {error.strerror}. Set TMPDIR to one, or "
            "unset METRICS_TOKEN."
        )
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def refuse_taken_port(host: str, port: int) -> None:
    """Exits with status 1 if the port is taken or not allowed, before anything else is started."""
    for listener in listeners(host, port):
        listener.close()


def listeners(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of `host`, bound but not listening yet; exits with status 1 if there is none.

    uvicorn binds in two ways, with one worker and with several, and only one of them takes IPv4 on `::`.
    """
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            bound.append(listener := socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
            listener.bind(address)
            listener.set_inheritable(True)  # by the workers
    except OSError as error:
        for listener in bound:
            listener.close()
        sys.exit(f"Cannot listen on {host} port {port}: {error.strerror}. Set PORT or HOST to another.")
    return bound


def serve(listening: Callable[[], None] = lambda: None) -> None:
    """Serves until SIGTERM or SIGINT, then lets running requests end. Calls `listening` once it accepts connections.

    Unless FOLLOW is off, a child runs the followers of the log meanwhile; where there is a broker, INGEST others drain it.
    """
    allow_many_sockets()
    # After its shutdown, uvicorn raises the signal that ended it again. A clean end is status 0, without a traceback.
    signal.signal(signal.SIGTERM, _exit)
    options = config()
    try:
        sockets = listeners(settings.HOST, settings.PORT)
        with ExitStack() as children:
            for command in ["follow"] * settings.FOLLOW + ["ingest"] * (settings.INGEST if settings.BROKER else 0):
                children.enter_context(Child(command))
            if options.workers > 1:
                listening()
                Supervisor(options, sockets=sockets).run()
            else:
                Server(options, listening).run(sockets=sockets)
    except KeyboardInterrupt:
        pass


def config() -> uvicorn.Config:
    return uvicorn.Config(
        "leaderboard_site.asgi:application",  # a name, because each worker process imports it
        host=settings.HOST,
        port=settings.PORT,
        workers=settings.WORKERS,
        backlog=4096,
        loop="uvloop",
        http="leaderboard_site.server.http_protocol:HttpProtocol",
        # Deflate would cost 34 KiB per socket, and more per frame than sending it; no client has long frames to send.
        ws="leaderboard_site.server.socket_protocol:SocketProtocol",
        ws_per_message_deflate=False,
        ws_max_size=1024,
        ws_ping_interval=12,
        ws_ping_timeout=12,  # with the interval above: a client that reads nothing is closed within 30 s
        lifespan="on",
        timeout_keep_alive=75,  # longer than the usual 60 s of proxies: the proxy must be the one that closes
        timeout_graceful_shutdown=20,
        # Without trusted proxies, headers in which a client states its own address and scheme are not even read.
        proxy_headers=bool(settings.TRUSTED_PROXIES),
        forwarded_allow_ips=[*settings.TRUSTED_PROXIES, *mapped(settings.TRUSTED_PROXIES)],
        server_header=False,
        access_log=False,  # the proxy has one, and a log line costs more than some requests
        log_config=None,  # settings.LOGGING
    )


def mapped(names: Iterable[str]) -> Iterator[str]:
    """IPv4 addresses and networks of `names` as IPv6 has them: a proxy that takes both names itself so."""
    for name in names:
        try:
            network = IPv4Network(name)
        except ValueError:  # IPv6, or no address
            continue
        yield f"::ffff:{network.network_address}/{96 + network.prefixlen}"


def allow_many_sockets() -> None:
    """Raises the limit on open files to this user's maximum: the usual 1,024 would limit the sockets."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):
        pass  # macOS reports "unlimited" but allows 10,240


class Supervisor(Multiprocess):
    """Passes further signals on to the workers that it waits for: the second one skips what is left of a drain."""

    def join_all(self) -> None:
        processes = [worker.process for worker in self.processes]
        while any(process.is_alive() for process in processes):
            if self.signal_queue:
                self.signal_queue.clear()
                for process in processes:
                    process.terminate()
            time.sleep(0.05)


class Server(uvicorn.Server):
    """Calls `listening` once it accepts connections, which uvicorn only logs."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._listening()


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
