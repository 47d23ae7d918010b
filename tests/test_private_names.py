"""What the service uses of other packages although it is not public, each with the page that says what for.

A release of such a package may change it without a word. Then a test here fails and names the page to read.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions, version
from typing import Any, NamedTuple, TypeGuard

import pytest

from tools.servers import ROOT

FILES = sorted(path for name in ("leaderboard_site", "realtime", "scores") for path in (ROOT / name).rglob("*.py"))
TREES = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in FILES}

# Modules that their packages do not document, or call internal.
NOT_PUBLIC = (
    "channels.consumer",
    "daphne.management",
    "django.contrib.admin.options",
    "django.contrib.admin.templatetags",
    "django.contrib.admin.utils",
    "django.contrib.admin.views",
    "django.core.handlers",
    "django.db.backends",
    "django.db.migrations.executor",
    "django.http.request",
    "prometheus_client.exposition",
    "uvicorn.protocols",
    "uvicorn.supervisors",
    "websockets.frames",
    "websockets.http11",
    "websockets.protocol",
)
# Objects that one gets without an import, by the file and the way in which they are named there.
TYPES = {
    ("leaderboard_site/server/socket_protocol.py", "self.conn"): "websockets.server.ServerProtocol",
    ("leaderboard_site/server/http_protocol.py", "cycle"): "uvicorn.protocols.http.httptools_impl.RequestResponseCycle",
    ("scores/api/async_view.py", "wrapped"): "rest_framework.request.Request",
    ("realtime/channel_layer.py", "layer"): "channels_redis.pubsub.RedisPubSubLoopLayer",
    ("realtime/channel_layer.py", "self"): "channels_redis.pubsub.RedisPubSubChannelLayer",
    ("realtime/channel_layer.py", "shard"): "channels_redis.pubsub.RedisSingleShardConnection",
}
DOCUMENTED = {"_asdict", "_fields", "_make", "_meta", "_replace"}  # of named tuples and of Django's models


class Use(NamedTuple):
    file: str
    owner: str  # a module, or a class in one
    name: str


def uses(read: str, file: str, owner: str, names: str) -> dict[Use, str]:
    return {Use(file, owner, name): read for name in names.split()}


def adr(number: int) -> str:
    """The page of a decision, whatever its title is now."""
    (page,) = (ROOT / "docs" / "adr").glob(f"{number:04}-*.md")
    return str(page.relative_to(ROOT))


UVICORN_HTTP = "uvicorn.protocols.http.httptools_impl"
UVICORN_SOCKETS = "uvicorn.protocols.websockets.websockets_sansio_impl"
HTTP = f"{UVICORN_HTTP}.HttpToolsProtocol"
SOCKET = f"{UVICORN_SOCKETS}.WebSocketsSansIOProtocol"
HTTP_PROTOCOL = "leaderboard_site/server/http_protocol.py"
SOCKET_PROTOCOL = "leaderboard_site/server/socket_protocol.py"
FRAMES = adr(11)
STRANGERS = adr(20)
REFUSALS = adr(27)
ADMIN = "docs/admin.md"

# By use, the page to read when a release changes what is used.
LISTED: dict[Use, str] = (
    # The server's protocols
    uses(FRAMES, HTTP_PROTOCOL, UVICORN_HTTP, "HttpToolsProtocol RequestResponseCycle")
    | uses(REFUSALS, HTTP_PROTOCOL, UVICORN_HTTP, "STATUS_LINE")
    | uses(FRAMES, HTTP_PROTOCOL, HTTP, "connection_made loop transport client")
    | uses(FRAMES, HTTP_PROTOCOL, HTTP, "handle_websocket_upgrade parser flow")
    | uses(STRANGERS, HTTP_PROTOCOL, HTTP, "connection_lost cycle data_received shutdown")
    | uses(REFUSALS, HTTP_PROTOCOL, HTTP, "on_headers_complete on_body on_response_complete pipeline scope headers url")
    | uses(REFUSALS, HTTP_PROTOCOL, HTTP, "_should_upgrade pause_writing resume_writing server_state")
    | uses(REFUSALS, HTTP_PROTOCOL, HTTP, "timeout_keep_alive_task eof_received scheme")
    | uses(STRANGERS, HTTP_PROTOCOL, f"{UVICORN_HTTP}.RequestResponseCycle", "response_complete")
    | uses(REFUSALS, HTTP_PROTOCOL, f"{UVICORN_HTTP}.RequestResponseCycle", "more_body disconnected response_started")
    | uses(REFUSALS, HTTP_PROTOCOL, f"{UVICORN_HTTP}.RequestResponseCycle", "keep_alive")
    | uses(FRAMES, SOCKET_PROTOCOL, UVICORN_SOCKETS, "WebSocketsSansIOProtocol")
    | uses(FRAMES, SOCKET_PROTOCOL, SOCKET, "connection_lost handle_close handle_connect")
    | uses(FRAMES, SOCKET_PROTOCOL, SOCKET, "conn loop resume_writing scope send transport writable")
    | uses(STRANGERS, SOCKET_PROTOCOL, SOCKET, "close_sent close_timeout close_timer")
    | uses(STRANGERS, SOCKET_PROTOCOL, SOCKET, "data_received handle_bytes handle_cont")
    | uses(STRANGERS, SOCKET_PROTOCOL, SOCKET, "handle_parser_exception handle_ping")
    | uses(STRANGERS, SOCKET_PROTOCOL, SOCKET, "handle_pong handle_text keepalive_timeout")
    | uses(STRANGERS, SOCKET_PROTOCOL, SOCKET, "pause_writing queue shutdown")
    | uses(REFUSALS, SOCKET_PROTOCOL, SOCKET, "client connection_made disconnected handshake_complete")
    | uses(REFUSALS, SOCKET_PROTOCOL, SOCKET, "handshake_initiated response")
    | uses(REFUSALS, HTTP_PROTOCOL, "websockets.http11", "MAX_LINE_LENGTH MAX_NUM_HEADERS")
    | uses(FRAMES, SOCKET_PROTOCOL, "websockets.frames", "Frame")
    | uses(FRAMES, SOCKET_PROTOCOL, "websockets.http11", "Request")
    | uses(FRAMES, SOCKET_PROTOCOL, "websockets.protocol", "State")
    | uses(FRAMES, SOCKET_PROTOCOL, "websockets.server.ServerProtocol", "parser reader state")
    | uses(STRANGERS, SOCKET_PROTOCOL, "websockets.server.ServerProtocol", "close_sent data_to_send send_close")
    | uses(REFUSALS, SOCKET_PROTOCOL, "websockets.server.ServerProtocol", "reject handshake_exc")
    # What is beside them
    | uses(adr(18), "leaderboard_site/server/uvicorn_server.py", "uvicorn.supervisors", "Multiprocess")
    | uses(
        "docs/operations.md",
        "leaderboard_site/server/uvicorn_server.py",
        "uvicorn.supervisors.Multiprocess",
        "join_all processes signal_queue",
    )
    | uses(
        adr(18),
        "leaderboard_site/observability/exposition.py",
        "prometheus_client.exposition",
        "CONTENT_TYPE_PLAIN_0_0_4",
    )
    | uses(adr(19), "leaderboard_site/observability/__init__.py", "structlog", "twisted")
    | uses(
        STRANGERS,
        "leaderboard_site/server/management/commands/runserver.py",
        "daphne.management.commands.runserver",
        "Command",
    )
    # The handler of the API
    | uses(adr(6), "leaderboard_site/edge/handlers.py", "django.core.handlers.asgi", "ASGIHandler ASGIRequest")
    | uses(adr(6), "leaderboard_site/edge/handlers.py", "django.core.handlers.asgi.ASGIHandler", "load_middleware")
    | uses(adr(6), "leaderboard_site/edge/cross_origin.py", "django.core.handlers.asgi", "ASGIRequest")
    | uses(FRAMES, "leaderboard_site/edge/handlers.py", "django.http.request", "split_domain_port validate_host")
    | uses(FRAMES, "scores/api/async_view.py", "rest_framework.request.Request", "parser_context")
    # Sockets
    | uses(adr(5), "realtime/consumers.py", "channels.consumer", "AsyncConsumer get_handler_name")
    | uses(adr(5), "realtime/consumers.py", "channels.consumer.AsyncConsumer", "base_send dispatch scope")
    | uses(FRAMES, "realtime/frame_bytes.py", "websockets.frames", "Frame Opcode")
    | uses("docs/protocol.md", "realtime/origins.py", "django.http.request", "split_domain_port validate_host")
    | uses(adr(30), "realtime/channel_layer.py", "channels_redis.pubsub.RedisPubSubChannelLayer", "_layers")
    | uses(adr(30), "realtime/channel_layer.py", "channels_redis.pubsub.RedisPubSubLoopLayer", "_shards")
    | uses(adr(30), "realtime/channel_layer.py", "channels_redis.pubsub.RedisSingleShardConnection", "_redis")
    # Stores
    | uses(adr(8), "leaderboard_site/local/run.py", "django.db.migrations.executor", "MigrationExecutor")
    | uses(
        adr(17),
        "leaderboard_site/operations/pending_migrations.py",
        "django.db.migrations.executor",
        "MigrationExecutor",
    )
    | uses(adr(2), "scores/log/head.py", "django.db.backends.base.base", "BaseDatabaseWrapper")
    | uses(adr(2), "scores/log/writer.py", "django.db.backends.base.base", "BaseDatabaseWrapper")
    | uses(adr(39), "scores/log/session.py", "django.db.backends.base.base", "BaseDatabaseWrapper")
    | uses(adr(2), "scores/log/writer.py", "django.db.backends.base.base.BaseDatabaseWrapper", "wrap_database_errors")
    | uses(adr(21), "scores/boards/follower.py", "django.db.backends.utils", "CursorWrapper")
    | uses(adr(21), "scores/boards/history.py", "django.db.backends.utils", "CursorWrapper")
    | uses(adr(21), "scores/boards/reads.py", "django.db.backends.utils", "CursorWrapper")
    | uses(adr(21), "scores/boards/standings.py", "django.db.backends.utils", "CursorWrapper")
    | uses(adr(21), "scores/engagement/reads.py", "django.db.backends.utils", "CursorWrapper")
    | uses(adr(21), "scores/selectors.py", "django.db.backends.utils", "CursorWrapper")
    # The admin
    | uses(ADMIN, "scores/admin/board_facts.py", "django.contrib.admin.views.main", "ChangeList")
    | uses(
        ADMIN, "scores/admin/board_facts.py", "django.contrib.admin.views.main.ChangeList", "get_results result_list"
    )
    | uses(ADMIN, "scores/admin/events.py", "django.contrib.admin.utils", "quote")
    | uses(ADMIN, "scores/admin/standing.py", "django.contrib.admin.views.main", "ChangeList PAGE_VAR")
    | uses(
        ADMIN,
        "scores/admin/standing.py",
        "django.contrib.admin.views.main.ChangeList",
        "get_query_string get_results result_list",
    )
    | uses(ADMIN, "scores/admin/users.py", "django.contrib.admin.options", "IncorrectLookupParameters")
    | uses(ADMIN, "scores/admin/users.py", "django.contrib.admin.templatetags.admin_urls", "add_preserved_filters")
    | uses(ADMIN, "scores/admin/users.py", "django.contrib.admin.utils", "quote")
    | uses(ADMIN, "scores/admin/users.py", "django.contrib.admin.views.main", "ChangeList ERROR_FLAG SEARCH_VAR")
)


# What the code uses


def found(file: str) -> Iterator[Use]:
    tree = TREES[file]
    imports = {
        alias.asname or alias.name: Use(file, node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        for alias in node.names
    }
    yield from (use for use in imports.values() if not is_public(use.owner) or is_private(use.name))
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (Use(file, alias.name, "") for alias in names if not is_public(alias.name))
            case ast.Attribute(value=value, attr=name) if (file, ast.unparse(value)) in TYPES:
                yield Use(file, TYPES[file, ast.unparse(value)], name)
            case ast.Attribute(value=value, attr=name) if is_private(name) and name not in ours() | DOCUMENTED:
                yield Use(file, ast.unparse(value), name)
            case ast.Call(func=ast.Name("getattr" | "setattr" | "hasattr"), args=[value, ast.Constant(str(name)), *_]):
                if is_private(name) and name not in ours() | DOCUMENTED:
                    yield Use(file, ast.unparse(value), name)
            case ast.ClassDef(bases=bases):
                for base in (imports[base.id] for base in bases if isinstance(base, ast.Name) and base.id in imports):
                    if not is_public(base.owner):
                        yield from inherited(node, Use(file, f"{base.owner}.{base.name}", ""))


def inherited(child: ast.ClassDef, base: Use) -> Iterator[Use]:
    """What a class overrides, and uses by `self`, of a class that is not public."""
    names = {node.name for node in child.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
    names |= {node.attr for node in ast.walk(child) if is_of_self(node)}
    return (base._replace(name=name) for name in names if not name.startswith("__") and has(resolved(base.owner), name))


def is_public(module: str) -> bool:
    parts = module.split(".")
    known = any(module == name or module.startswith(f"{name}.") for name in NOT_PUBLIC)
    return not known and not any(is_private(part) for part in parts)


def is_private(name: str) -> bool:
    return name.startswith("_") and name != "_" and not name.startswith("__")


def is_of_self(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


@cache
def ours() -> set[str]:
    """The names that our own code gives: an attribute of that name is taken for ours, wherever it is used."""
    names = set()
    for node in (node for tree in TREES.values() for node in ast.walk(tree)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.Attribute(value=ast.Name("self" | "cls"), attr=name, ctx=ast.Store()):
                names.add(name)
    return names


# What the packages have


def resolved(path: str) -> Any:
    """A module, or a class in one."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name) if name[0].isupper() else import_module(path)


def has(owner: Any, name: str) -> bool:
    """Whether a module or a class has it, or the instances of the class."""
    return hasattr(owner, name) or (inspect.isclass(owner) and any(name in given(base) for base in owner.__mro__))


@cache
def given(base: type) -> set[str]:
    """What the methods of a class give to `self`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
    except (OSError, TypeError):  # built in
        return set()
    return {node.attr for node in ast.walk(tree) if is_of_self(node) and isinstance(node.ctx, ast.Store)}


def problems_of(unlisted: set[Use]) -> str:
    return "\n".join(
        f"{file} uses {name or 'the module'} of {owner}, which is not public: list it in {__name__}, with the page to read."
        for file, owner, name in sorted(unlisted)
    )


def test_what_is_not_public_is_listed() -> None:
    unlisted = {use for file in TREES for use in found(file)} - LISTED.keys()

    assert not unlisted, problems_of(unlisted)


def missing(listed: dict[Use, str]) -> Iterator[str]:
    for use, page in listed.items():
        try:
            there = has(resolved(use.owner), use.name)
        except (ImportError, AttributeError):
            there = False
        if not there:
            (distribution, *_) = packages_distributions()[use.owner.partition(".")[0]]
            yield (
                f"{distribution} {version(distribution)} has no {use.name} in {use.owner}, which is not public. "
                f"{use.file} uses it: read {page} for what, and find another way."
            )


def test_what_is_listed_is_there() -> None:
    gone = list(missing(LISTED))

    assert not gone, "\n".join(gone)


def test_what_is_listed_is_used() -> None:
    unused = [use for use in LISTED if use.file not in TREES or use.name not in (ROOT / use.file).read_text()]

    assert unused == []
    assert [page for page in LISTED.values() if not (ROOT / page).exists()] == []


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (f"{UVICORN_SOCKETS}.WebSocketsSansIOProtocol", "handle_farewell"),
        (f"{UVICORN_SOCKETS}.WebSocketsProtocol", "handle_close"),
        ("uvicorn.protocols.websockets.another_impl", "WebSocketsSansIOProtocol"),
    ],
)
def test_what_is_gone_is_named_with_its_page(owner: str, name: str) -> None:
    (said,) = missing(uses(STRANGERS, SOCKET_PROTOCOL, owner, name))

    assert f"has no {name} in {owner}" in said
    assert f"{SOCKET_PROTOCOL} uses it: read {STRANGERS}" in said


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from uvicorn.protocols.utils import get_path\n", "get_path"),
        ("import websockets.frames\n", ""),
        ("from channels import _secret\n", "_secret"),
        ("import redis\nredis.Redis()._pool_of_redis.clear()\n", "_pool_of_redis"),
        ("import redis\ngetattr(redis.Redis(), '_pool_of_redis')\n", "_pool_of_redis"),
        (f"from {UVICORN_HTTP} import HttpToolsProtocol as H\nclass Mine(H):\n  def on_url(self): pass\n", "on_url"),
        (
            f"from {UVICORN_HTTP} import HttpToolsProtocol as H\nclass Mine(H):\n  def f(self): self.headers\n",
            "headers",
        ),
    ],
)
def test_a_new_use_is_found(code: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TREES, "new.py", ast.parse(code))

    assert name in {use.name for use in found("new.py")} - {"HttpToolsProtocol"}
