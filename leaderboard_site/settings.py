"""The only settings file. Each setting that differs between machines is an environment variable of the same name.

This file knows nothing of local runs: before it is read, `local` fills in the variables that are not set.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import global_settings

from leaderboard_site.conf.broker import NAME as BROKER_NAME
from leaderboard_site.conf.broker import broker_of
from leaderboard_site.conf.database import database_of
from leaderboard_site.conf.env import Reader, shown
from leaderboard_site.conf.keys import algorithm_of_pair, is_confidential
from leaderboard_site.conf.redis import redis_of
from leaderboard_site.observability.logs import RefusalFilter, formatter
from leaderboard_site.version import VERSION

BASE_DIR = Path(__file__).resolve().parent.parent
RANDOM_HINT = 'Make one: python3 -c "import secrets; print(secrets.token_urlsafe(48))"'

read = Reader()

# Core

RELEASE = VERSION
SECRET_KEY = read.secret("SECRET_KEY", least=32, hint=RANDOM_HINT)
ALLOWED_HOSTS = read.hosts(
    "ALLOWED_HOSTS", hint="Host names this service answers to, e.g. ALLOWED_HOSTS=scores.example.org"
)
HTTPS = read.choice("HTTPS", "on", ("on", "off")) == "on"
# Where people find the service. Needed below a path, and behind a proxy that drops the port from Host.
PUBLIC_URL = read.public_url("PUBLIC_URL", "")
if PUBLIC_URL and HTTPS and PUBLIC_URL.origin.startswith("http:"):
    read.problems.append(
        "PUBLIC_URL begins with http://, where browsers send no cookie of HTTPS=on. Set HTTPS=off too."
    )
URL_PREFIX = PUBLIC_URL.path if PUBLIC_URL else ""
PUBLIC_ORIGINS = [PUBLIC_URL.origin] if PUBLIC_URL else []
LOG_LEVEL = read.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
LOG_FORMAT = read.choice("LOG_FORMAT", "json", ("json", "console"))

INSTALLED_APPS = [
    "leaderboard_site.server",  # first: its `runserver` replaces Django's
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",  # the files of its page, so that no other site must serve them
    "rest_framework_simplejwt.token_blacklist",
    "scores",
    "realtime",
]
ROOT_URLCONF = "leaderboard_site.urls"
ASGI_APPLICATION = "leaderboard_site.asgi.application"

# What Django's own handler runs: the admin, the page and the token endpoints.
MIDDLEWARE = [
    "leaderboard_site.server.affinity.roaming",
    "leaderboard_site.observability.tracing.TracingMiddleware",
    "leaderboard_site.edge.policy.PolicyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "leaderboard_site.edge.whole_files.WholeFiles",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "leaderboard_site.edge.outage.OutageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "leaderboard_site" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "leaderboard_site.version.in_templates",
            ]
        },
    }
]

# Stores

DATABASE_URL = read.text("DATABASE_URL", hint="PostgreSQL, e.g. DATABASE_URL=postgresql://user:password@host:5432/name")
REDIS_URL = read.text("REDIS_URL", hint="Redis, e.g. REDIS_URL=redis://host:6379/0")

DATABASES: dict[str, Any] = {}
if DATABASE_URL:
    try:
        DATABASES["default"] = database_of(DATABASE_URL)
    except ValueError as error:
        read.problems.append(f"DATABASE_URL: {error}")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


CACHES: dict[str, Any] = {}
CHANNEL_LAYERS: dict[str, Any] = {}
if REDIS_URL:
    try:
        redis_server = redis_of(REDIS_URL)
    except ValueError as error:
        read.problems.append(f"REDIS_URL: {error}")
    else:
        CACHES["default"] = redis_server.cache(0.1)  # what a request waits for
        # Rebuilds and comparisons, for which no request waits. Redis stands still for a second while the system takes
        # the memory of a replaced set of two million members back.
        CACHES["bulk"] = redis_server.cache(5.0)
        CHANNEL_LAYERS["default"] = {
            "BACKEND": "realtime.channel_layer.ChannelLayer",
            "CONFIG": {"hosts": [redis_server.channel_layer_host()]},
        }

# A broker, where there is one

BROKER_URL = read.text("BROKER_URL", "")  # amqp://… (RabbitMQ) or kafka://…
BROKER = None
if BROKER_URL:
    try:
        BROKER = broker_of(BROKER_URL)
    except ValueError as error:
        read.problems.append(f"BROKER_URL: {error}")
INGEST = read.integer("INGEST", 1, least=0, most=16)  # processes of `manage.py ingest` that a server starts beside it
INGEST_QUEUE = read.text("INGEST_QUEUE", "leaderboard.ingest")  # the queue or topic that they drain
INGEST_BATCH = read.integer("INGEST_BATCH", 512, least=1, most=2_000)  # changes in a transaction of theirs
if not BROKER_NAME.fullmatch(INGEST_QUEUE):
    read.problems.append(f"INGEST_QUEUE={shown(INGEST_QUEUE)}: expected up to 200 of a-z, A-Z, 0-9 and . _ -")
PUBLISH = read.choice("PUBLISH", "off", ("on", "off")) == "on"  # every event of the log goes to the broker
PUBLISH_TO = read.text("PUBLISH_TO", "leaderboard.events")  # the exchange or topic that they go to
PUBLISH_BATCH = read.integer("PUBLISH_BATCH", 1, least=1, most=1_000)  # events in a message
if PUBLISH and not BROKER_URL:
    read.problems.append("PUBLISH=on needs BROKER_URL: without it there is nobody to publish to.")
if not BROKER_NAME.fullmatch(PUBLISH_TO):
    read.problems.append(f"PUBLISH_TO={shown(PUBLISH_TO)}: expected up to 200 of a-z, A-Z, 0-9 and . _ -")

# The leaderboard

MAX_POINTS = read.integer("MAX_POINTS", 1_000_000, least=1, most=2**53 - 1)  # of one increment
ACTIONS_ONLY = read.choice("ACTIONS_ONLY", "false", ("true", "false")) == "true"  # players name actions, not points
# For tests and development: webhooks also to http:// and to addresses of this host and of private networks.
WEBHOOK_ALLOW_PRIVATE = read.choice("WEBHOOK_ALLOW_PRIVATE", "off", ("on", "off")) == "on"
MAX_BOARDS = read.integer("MAX_BOARDS", 1000, least=0, most=100_000)  # besides the default one
FRAME_INTERVAL_MS = read.integer("FRAME_INTERVAL_MS", 50, least=10, most=10_000)  # between two frames of one socket
SOCKET_ORIGINS = read.origins("SOCKET_ORIGINS", "") + PUBLIC_ORIGINS  # besides the request's own host
CORS_ALLOWED_ORIGINS = CORS_ORIGINS = read.origins("CORS_ORIGINS", "")
CORS_ALLOW_HEADERS = ["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Prefer"]
CORS_EXPOSE_HEADERS = ["ETag", "Idempotency-Key", "Idempotency-Replayed", "Location", "Preference-Applied"]
CORS_EXPOSE_HEADERS += ["RateLimit", "RateLimit-Policy", "Retry-After"]
CORS_EXPOSE_HEADERS += ["X-Leaderboard-Age", "X-Leaderboard-Position", "X-Leaderboard-Seq"]
CORS_EXPOSE_HEADERS += ["X-Leaderboard-Source", "X-Request-ID"]

# Tokens

REGISTRATION = read.choice("REGISTRATION", "closed", ("open", "closed"))
PLAY_AREA = read.choice("PLAY_AREA", "off", ("on", "off")) == "on"  # on the page at /
JWT_PRIVATE_KEY = read.text("JWT_PRIVATE_KEY", "").replace("\\n", "\n")
JWT_PUBLIC_KEY = read.text("JWT_PUBLIC_KEY", "").replace("\\n", "\n")
if JWT_PRIVATE_KEY or JWT_PUBLIC_KEY:
    JWT_SIGNING_KEY = ""
    if not (JWT_PRIVATE_KEY and JWT_PUBLIC_KEY):
        read.problems.append(
            "JWT_PRIVATE_KEY and JWT_PUBLIC_KEY go together: set both (PEM), or neither and JWT_SIGNING_KEY."
        )
else:
    JWT_SIGNING_KEY = read.secret("JWT_SIGNING_KEY", least=32, hint=RANDOM_HINT)

# Once set, every token must have them. Tokens issued here do.
JWT_ISSUER = read.text("JWT_ISSUER", "") or None
JWT_AUDIENCE = read.text("JWT_AUDIENCE", "") or None
JWKS_URL = read.text("JWKS_URL", "")  # of an identity provider whose tokens are accepted as well
if JWKS_URL:
    if not is_confidential(JWKS_URL):
        read.problems.append(
            f"JWKS_URL={shown(JWKS_URL)}: expected https://…, or http://… on this machine's loopback, without a user."
        )
    if not (JWT_ISSUER and JWT_AUDIENCE):
        read.problems.append(
            "JWKS_URL needs JWT_ISSUER and JWT_AUDIENCE: without them, tokens for other services would be accepted."
        )

JWKS_SUBJECT_PREFIX = read.text("JWKS_SUBJECT_PREFIX", "")  # of the ids of the provider's users, such as `idp:`
# No username has a colon, so nobody who registers here can have such an id.
if JWKS_SUBJECT_PREFIX and not re.fullmatch(r"(?!service:)[A-Za-z0-9_.-]{1,31}:", JWKS_SUBJECT_PREFIX):
    read.problems.append(
        f"JWKS_SUBJECT_PREFIX={shown(JWKS_SUBJECT_PREFIX)}: expected up to 31 of a-z, A-Z, 0-9 and _ . - and then a colon, "
        "such as idp: and not service:"
    )

SIMPLE_JWT: dict[str, Any] = {
    "ISSUER": JWT_ISSUER,
    "AUDIENCE": JWT_AUDIENCE,
    "ALGORITHM": "HS256",
    "SIGNING_KEY": JWT_SIGNING_KEY,
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=15),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=14),
    "LEEWAY": 10,  # seconds between the clocks of two hosts of this service, or of this host and the provider
    "USER_ID_FIELD": "username",
    "USER_ID_CLAIM": "user_id",
}
if JWT_PRIVATE_KEY and JWT_PUBLIC_KEY:
    try:
        SIMPLE_JWT["ALGORITHM"] = algorithm_of_pair(JWT_PRIVATE_KEY, JWT_PUBLIC_KEY)
    except ValueError as error:
        read.problems.append(f"JWT_PRIVATE_KEY / JWT_PUBLIC_KEY: {error}")
    SIMPLE_JWT |= {"SIGNING_KEY": JWT_PRIVATE_KEY, "VERIFYING_KEY": JWT_PUBLIC_KEY}

PASSWORD_HASHERS = [
    "leaderboard_site.server.hashing.BoundedPBKDF2PasswordHasher",
    *(hasher for hasher in global_settings.PASSWORD_HASHERS if not hasher.endswith(".PBKDF2PasswordHasher")),
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["scores.access.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["scores.api.parsers.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "scores.api.negotiation.Negotiation",
    "EXCEPTION_HANDLER": "scores.api.problems.handle_exception",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.1",
    "TITLE": "Leaderboard",
    "VERSION": "1",
    "DESCRIPTION": "Players send points; everyone sees the board. The sockets are described in docs/asyncapi.yaml.",
    "CAMELIZE_NAMES": True,  # {userId}, as in docs/protocol.md
    "DISABLE_DOCSTRING_DESCRIPTIONS": True,  # docstrings are for readers of the code
    "SORT_OPERATIONS": False,
    "SORT_OPERATION_PARAMETERS": False,
    "SERVERS": [{"url": URL_PREFIX}] if URL_PREFIX else [],  # relative to the schema's own address
    "POSTPROCESSING_HOOKS": ["scores.api.openapi.complete"],
}

# Limits

RATE_LIMIT = read.rate("RATE_LIMIT", "120/minute")  # increments of a user
# RATE_LIMIT=off turns off the other limits too, except those that are set.
READ_RATE_LIMIT = read.rate("READ_RATE_LIMIT", "1200/minute", off=RATE_LIMIT is None)  # of an address
TOKEN_RATE_LIMIT = read.rate("TOKEN_RATE_LIMIT", "30/minute", off=RATE_LIMIT is None)  # of an address
HANDSHAKE_RATE_LIMIT = read.rate("HANDSHAKE_RATE_LIMIT", "120/minute", off=RATE_LIMIT is None)  # of an address
MAX_SOCKETS_PER_ADDRESS = read.cap("MAX_SOCKETS_PER_ADDRESS", 100, off=RATE_LIMIT is None)  # of one process
MAX_SOCKETS = read.cap("MAX_SOCKETS", 20_000)  # of one process: about half a gigabyte

# Metrics

METRICS_TOKEN = read.text("METRICS_TOKEN", "")  # the bearer token for /metrics; if empty, there is no /metrics
if METRICS_TOKEN and len(METRICS_TOKEN) < 16:
    read.problems.append(f"METRICS_TOKEN has {len(METRICS_TOKEN)} characters; it needs at least 16. {RANDOM_HINT}")

# Files for a warehouse

EXPORT_KEY = read.text(
    "EXPORT_KEY", ""
)  # hashes the user ids in the files; if empty, a key that follows from SECRET_KEY
if EXPORT_KEY and len(EXPORT_KEY.encode()) < 32:
    read.problems.append(f"EXPORT_KEY has {len(EXPORT_KEY.encode())} bytes; it needs at least 32. {RANDOM_HINT}")

# Serving

HOST = read.text("HOST", "127.0.0.1")  # the address to listen on; a container needs 0.0.0.0
PORT = read.integer("PORT", 8000, least=1, most=65535)
WORKERS = read.integer("WORKERS", 1, least=1, most=64)
FOLLOW = read.choice("FOLLOW", "on", ("on", "off")) == "on"  # start `manage.py follow` beside the workers
CPU_AFFINITY = read.choice("CPU_AFFINITY", "on", ("on", "off")) == "on"  # keep each process to one CPU
DRAIN_S = read.integer("DRAIN_S", 0, least=0, most=300)  # between SIGTERM and the end
TRUSTED_PROXIES = read.networks("TRUSTED_PROXIES", "")  # addresses whose X-Forwarded-* headers are trusted

FORCE_SCRIPT_NAME = URL_PREFIX or None
CSRF_TRUSTED_ORIGINS = PUBLIC_ORIGINS
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = URL_PREFIX or "/"
if URL_PREFIX:
    # Of two cookies with one name Django takes the last, which would be another Django's at /.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "leaderboard_session", "leaderboard_csrf"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 30 * 24 * 3600 if HTTPS else 0
SECURE_PROXY_SSL_HEADER = None  # uvicorn sets the scheme, and only for TRUSTED_PROXIES
X_FRAME_OPTIONS = "DENY"
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # HSTS of subdomains and preload: promises about hosts that are not ours
    "security.W021",
    "security.W008",  # the proxy that ends TLS redirects; health checks and loopback clients use plain HTTP
]

LOGIN_REDIRECT_URL = "admin:index"  # for a sign-in that names no page to go on to
STATIC_URL = f"{URL_PREFIX}/static/"
STATICFILES_DIRS = [BASE_DIR / "leaderboard_site" / "static"]
WHITENOISE_ROOT = (
    BASE_DIR / "leaderboard_site" / "root"
)  # what is asked for at fixed addresses: favicon.ico, robots.txt
WHITENOISE_USE_FINDERS = True  # serves from the packages themselves: there is no collectstatic step to forget

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": formatter(LOG_FORMAT)},
    "filters": {"refusals": {"()": RefusalFilter}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["refusals"]}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        # It logs a line for every socket, and there are thousands.
        "uvicorn.error": {"level": "WARNING" if LOG_LEVEL == "INFO" else LOG_LEVEL},
        # It logs a line for each batch that a lost connection ended, which the writer logs once.
        "psycopg": {"level": "ERROR"},
        # They log each attempt to reach a broker that is away, which whoever needs it logs once.
        "aiormq": {"level": "CRITICAL"},
        "aio_pika": {"level": "CRITICAL"},
        # It logs a traceback per second while Redis is away, which the breaker logs once.
        "channels_redis.pubsub": {"level": "CRITICAL"},
    },
}

read.finish()
