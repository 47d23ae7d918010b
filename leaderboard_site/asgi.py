"""Wiring only: which application serves which address."""

from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leaderboard_site.settings")
django_handler = get_asgi_application()  # first: what is imported below needs the app registry

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402

from leaderboard_site.edge.address_limits import PASSWORD_FORMS, PageLimit, TokenLimit  # noqa: E402
from leaderboard_site.edge.cross_origin import CrossOrigin  # noqa: E402
from leaderboard_site.edge.deadline import Deadline  # noqa: E402
from leaderboard_site.edge.errors import late_page_response, page_response  # noqa: E402
from leaderboard_site.edge.fast_path import BoardFastPath  # noqa: E402
from leaderboard_site.edge.forwarding import ForwardingCheck  # noqa: E402
from leaderboard_site.edge.handlers import MAX_FORM_BYTES, BodyLimit, HostCheck, LeanHandler  # noqa: E402
from leaderboard_site.edge.handshakes import HandshakeLimit  # noqa: E402
from leaderboard_site.edge.hang_ups import HangUps  # noqa: E402
from leaderboard_site.edge.page_methods import PageMethods  # noqa: E402
from leaderboard_site.edge.prefix import Prefix  # noqa: E402
from leaderboard_site.edge.queueing import Queueing  # noqa: E402
from leaderboard_site.edge.upgrades import is_socket, upgrade_required  # noqa: E402
from leaderboard_site.observability.tracing import Tracing  # noqa: E402
from realtime.origins import OriginCheck  # noqa: E402
from realtime.routing import websocket_urlpatterns  # noqa: E402
from scores import entries  # noqa: E402

from .asgi_types import Application, Receive, Scope, Send  # noqa: E402
from .observability import exposition  # noqa: E402
from .operations import health  # noqa: E402
from .server import hashing, lifespan  # noqa: E402

API = f"{settings.URL_PREFIX}/api/"
TOKENS = f"{API}v1/auth/"
BATCH = f"{API}v1/scores/batch"
HASHING = (f"{TOKENS}token", f"{TOKENS}register")
# Plain pages, which the lean handler does not serve.
REFERENCE = tuple(f"{API}{page}" for page in ("docs", "docs/", "schema", "schema/"))
# What strangers ask for most, and what costs most. Other pages may take longer: one deep in a long list of the admin, a
# hundred users blocked at once, the schema when it is made.
FRONT = (f"{settings.URL_PREFIX}/", *PASSWORD_FORMS)
READ_PAGES = (f"{settings.URL_PREFIX}/", *REFERENCE)  # have no form
PAGE_S = 10.0
STATIC_AT_ONCE = 4
CHECKUP = f"{health.PREFIX}deep"

django_application = HangUps(django_handler)


def page_application(deadline: Deadline) -> Application:
    # Django alone would spool a body of any length to disk.
    return ForwardingCheck(BodyLimit(PageMethods(PageLimit(deadline), read=READ_PAGES), max_bytes=MAX_FORM_BYTES))


def token_application(deadline: Deadline) -> Application:
    return ForwardingCheck(BodyLimit(TokenLimit(deadline)))


lean_handler = LeanHandler()
scores_application = BoardFastPath(BodyLimit(lean_handler))
batch_application = BodyLimit(lean_handler, max_bytes=entries.MAX_BYTES)
tokens_application = token_application(Deadline(django_application))
# Who would find no place to hash is refused without a thread: dozens of threads would fight over the interpreter.
hashing_application = token_application(Deadline(django_application, max_waiting=hashing.slots.room))
front_application = page_application(Deadline(django_application, refusal=page_response))
other_pages_application = page_application(Deadline(django_application, answer_s=PAGE_S, refusal=late_page_response))
# Neither counted nor timed (see `address_limits`). Each has a thread of its own, and hundreds would fight over the interpreter.
static_application = BodyLimit(Queueing(django_application, at_once=STATIC_AT_ONCE))
checkup_application = BodyLimit(Deadline(django_application))
health_application = HostCheck(health.health)
metrics_application = HostCheck(exposition.exposition)
upgrade_application = HostCheck(upgrade_required)


async def http(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"]
    application: Application = other_pages_application
    if path.startswith(API) and path not in REFERENCE:
        # Sync views issue the tokens: they hash passwords and write rows.
        if path in HASHING and scope["method"] == "POST":
            application = hashing_application
        elif path.startswith(TOKENS):
            application = tokens_application
        elif path == BATCH:
            application = batch_application
        else:
            application = scores_application
    elif path.startswith(settings.STATIC_URL):
        application = static_application
    elif path in FRONT:
        application = front_application
    elif path == CHECKUP:
        application = checkup_application
    elif path.startswith(health.PREFIX) or f"{path}/" == health.PREFIX:
        application = health_application
    elif path == exposition.PATH:
        application = metrics_application
    elif is_socket(path):
        application = upgrade_application
    await application(scope, receive, send)


sockets: Any = OriginCheck(URLRouter(websocket_urlpatterns))
pages_and_api = CrossOrigin(http) if settings.CORS_ORIGINS else http
protocols: Any = ProtocolTypeRouter(
    {
        "http": Tracing(pages_and_api),
        "websocket": ForwardingCheck(HandshakeLimit(sockets)),
        "lifespan": lifespan.lifespan,
    }
)
if settings.URL_PREFIX:
    protocols = Prefix(protocols, settings.URL_PREFIX)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        lifespan.start()
    await protocols(scope, receive, send)
