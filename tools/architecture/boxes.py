"""Where each package stands in the picture. The arrows between them are not written anywhere: they are the imports."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    name: str
    says: str
    kind: str  # which colours it has
    row: int
    column: int
    modules: tuple[str, ...]  # with all that is below them; of a store, its drivers
    columns: int = 1


class Band(NamedTuple):
    """The rows of one package, under its name."""

    name: str
    kind: str
    first: int
    last: int


SITE, REALTIME, SCORES, STORE = "site", "realtime", "scores", "store"

BOXES = (
    Box("local", "stores for make run", SITE, 0, 0, ("leaderboard_site.local",)),
    Box(
        "asgi, urls, settings",
        "what serves an address",
        SITE,
        0,
        2,
        ("leaderboard_site.asgi", "leaderboard_site.urls", "leaderboard_site.settings"),
    ),
    Box("server", "uvicorn, start and end", SITE, 1, 0, ("leaderboard_site.server",)),
    Box("pages", "the page, the reference", SITE, 1, 2, ("leaderboard_site.pages",)),
    Box("edge", "limits, deadlines", SITE, 1, 3, ("leaderboard_site.edge",)),
    Box("conf", "reads the environment", SITE, 2, 0, ("leaderboard_site.conf",)),
    Box("operations", "health, status, drain", SITE, 2, 1, ("leaderboard_site.operations",)),
    Box("observability", "logs, tracing, /metrics", SITE, 2, 3, ("leaderboard_site.observability",)),
    Box("realtime", "frames, the hub, sockets", REALTIME, 3, 0, ("realtime",), columns=2),
    Box("management", "commands", SCORES, 4, 0, ("scores.management",)),
    Box("api", "HTTP", SCORES, 4, 3, ("scores.api",)),
    Box("admin", "moderation", SCORES, 4, 4, ("scores.admin",)),
    Box("access", "who asks, how often", SCORES, 7, 1, ("scores.access",)),
    Box(
        "selectors",
        "reads",
        SCORES,
        5,
        2,
        ("scores.selectors", "scores.board_selectors", "scores.board_results", "scores.engagement_selectors"),
    ),
    Box("followers", "one process for all", SCORES, 5, 0, ("scores.followers",)),
    Box("engagement", "who plays when", SCORES, 6, 4, ("scores.engagement",)),
    Box("services", "writes", SCORES, 5, 4, ("scores.services", "scores.service_tokens", "scores.queued")),
    Box("projection", "the copy in Redis", SCORES, 6, 2, ("scores.projection",)),
    Box("boards", "calendar, definitions", SCORES, 6, 3, ("scores.boards",)),
    Box(
        "streams, warehouse",
        "brokers, Parquet files",
        SCORES,
        6,
        0,
        ("scores.streams", "scores.entries", "scores.warehouse"),
    ),
    Box("log", "the truth in PostgreSQL", SCORES, 7, 3, ("scores.log",)),
    Box("stores", "how a store is asked", SCORES, 8, 2, ("scores.stores",)),
    Box(
        "models, signals, exceptions",
        "and board, metrics, user_id, scopes",
        SCORES,
        9,
        0,
        (
            "scores.models",
            "scores.signals",
            "scores.exceptions",
            "scores.board",
            "scores.metrics",
            "scores.user_id",
            "scores.scopes",
            "scores.spreadsheet",
            "scores.award",
            "scores.strict_json",
        ),
        columns=2,
    ),
    Box("Redis", "ranks the totals", STORE, 10, 2, ("redis", "django_redis")),
    Box("PostgreSQL", "keeps every change", STORE, 10, 3, ("psycopg",)),
)
BANDS = (Band("leaderboard_site/", SITE, 0, 2), Band("scores/", SCORES, 4, 9))

# Django's wiring, which imports what it registers; and a type and a constant, which everything may know.
LEFT_OUT = (
    "scores.apps",
    "scores.checks",
    "scores.migrations",
    "leaderboard_site.asgi_types",
    "leaderboard_site.version",
)
