"""The production server: uvicorn, and every option of it that matters here. `python -m leaderboard_site.server`

All configuration is in the environment; what is missing or wrong is told in one go. Nothing local is imported from here.
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
from collections.abc import Callable
from types import FrameType

import django
import uvicorn
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from uvicorn.supervisors import Multiprocess

from leaderboard_site.conf.env import Reader


def main() -> None:
    set_up()
    refuse_taken_port(settings.HOST, settings.PORT)
    serve()


def set_up() -> None:
    """Load settings and apps, or end with status 1 and the list of what is wrong with the environment."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leaderboard_site.settings")
    make_room_for_metrics()
    try:
        django.setup()
    except ImproperlyConfigured as error:
        sys.exit(str(error))


def make_room_for_metrics() -> None:
    """A folder in which the processes keep their counts, for any of them to add up; if somebody may ask for them.

    Before the settings are read: prometheus_client looks for it once, when it is imported, and the workers inherit it.
    """
    if not Reader().text("METRICS_TOKEN", "") or "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        return
    folder = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="leaderboard-metrics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def refuse_taken_port(host: str, port: int) -> None:
    """End with status 1 if nobody could listen there, before anything is started for it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.exit(f"Cannot listen on {host} port {port}: {error.strerror}. Choose another with PORT or HOST.")


def serve(listening: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT, then let what is under way end. Calls `listening` once connections are taken."""
    allow_many_sockets()
    # uvicorn raises the signal that ended it once more when all is done. An orderly end is status 0, without a traceback.
    signal.signal(signal.SIGTERM, _exit)
    options = config()
    try:
        if options.workers > 1:
            listener = options.bind_socket()
            listening()
            Multiprocess(options, sockets=[listener]).run()
        else:
            Server(options, listening).run()
    except KeyboardInterrupt:
        pass


def config() -> uvicorn.Config:
    return uvicorn.Config(
        "leaderboard_site.asgi:application",  # a name, since each worker process imports it anew
        host=settings.HOST,
        port=settings.PORT,
        workers=settings.WORKERS,
        backlog=4096,
        loop="uvloop",
        http="leaderboard_site.server.protocol:HttpProtocol",
        # Deflate would cost each socket 34 KiB, and each frame more than sending it; nobody has a long frame to send us.
        ws="leaderboard_site.server.protocol:SocketProtocol",
        ws_per_message_deflate=False,
        ws_max_size=1024,
        ws_ping_interval=12,
        ws_ping_timeout=12,  # together with what is above it: whoever reads nothing is closed within 30 s
        lifespan="on",
        timeout_keep_alive=75,  # longer than the 60 s of the usual proxy, which must be the one to hang up
        timeout_graceful_shutdown=20,
        # With nobody trusted, what a client writes about its own address and scheme is not even read.
        proxy_headers=bool(settings.TRUSTED_PROXIES),
        forwarded_allow_ips=settings.TRUSTED_PROXIES,
        server_header=False,
        access_log=False,  # the proxy has one, and a line per request costs more than some requests
        log_config=None,  # settings.LOGGING
    )


def allow_many_sockets() -> None:
    """Raise the limit on open files to what this user may have: the usual 1,024 would be the limit on sockets."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):
        pass  # macOS says "unlimited" and means 10,240


class Server(uvicorn.Server):
    """Tells when it listens, which uvicorn only logs."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._listening()


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
