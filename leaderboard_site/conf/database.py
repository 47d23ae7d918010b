"""Django's entry for a database, from the URL as libpq reads it: all its hosts, sockets and parameters."""

from __future__ import annotations

from typing import Any

from psycopg import IsolationLevel, ProgrammingError
from psycopg.conninfo import conninfo_to_dict

SCHEMES = ("postgresql://", "postgres://")
EXAMPLE = "postgresql://user:password@host:5432/name"
ENCODE = "In names, passwords and values, write the characters / : @ % = & as %2F %3A %40 %25 %3D %26."
# A host that is down must cost a limited wait, never a thread: 2 s while sending or connecting, 5 s while waiting.
DEFAULTS: dict[str, Any] = {
    "connect_timeout": 2,
    "tcp_user_timeout": 2000,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    # A role or a database may have another default, in which a transaction fails that has waited for another.
    "isolation_level": IsolationLevel.READ_COMMITTED,
}
# The parameters for which Django has its own names; the others are its OPTIONS.
NAMES = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}


def database_of(url: str) -> dict[str, Any]:
    """The entry in DATABASES for a URL such as `postgresql://user:password@a:5432,b:5432/name?sslmode=verify-full`.

    Raises `ValueError`, whose text shows nothing of the URL: part of a badly written password may be anywhere in it.
    """
    if not url.startswith(SCHEMES):
        raise ValueError(f"expected {EXAMPLE}; no other database has the locks and arrays that this service needs.")
    if has_stray_at_sign(url):
        raise ValueError(f"it has one @ too many. {ENCODE}")
    try:
        parameters: dict[str, Any] = conninfo_to_dict(url)
    except ProgrammingError as error:
        # libpq quotes the part that it cannot read. Show only the text before the quote, and not the cause.
        reason, _, _ = str(error).partition('"')
        raise ValueError(f"{reason.strip(' :')}. Expected {EXAMPLE}. {ENCODE}") from None
    check_ports(parameters)
    if "dbname" not in parameters and "service" not in parameters:
        raise ValueError(f"it names no database. Expected {EXAMPLE}.")
    named = {django: parameters.pop(libpq, "") for libpq, django in NAMES.items()}
    return {"ENGINE": "django.db.backends.postgresql", **named, "OPTIONS": DEFAULTS | parameters}


def has_stray_at_sign(url: str) -> bool:
    """Whether libpq would take part of a password for a host, look it up, and show it in an error."""
    rest = url.partition("://")[2]
    # As libpq: name and password end at the first @, and there are none if a / comes before it.
    user, _, address = rest.partition("@")
    if "/" in user:
        address = rest
    return "@" in address.partition("?")[0]


def check_ports(parameters: dict[str, Any]) -> None:
    """Raises `ValueError` for a bad port. libpq checks ports only on connecting, and shows them: maybe a password."""
    ports = parameters.get("port", "").split(",")
    if not all(port == "" or (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535) for port in ports):
        raise ValueError(f"a port is not a number from 1 to 65535. {ENCODE}")
    hosts = (parameters.get("host") or parameters.get("hostaddr") or "").split(",")
    if len(ports) not in (1, len(hosts)):
        raise ValueError(f"{len(hosts)} hosts have {len(ports)} ports. Expected one for all, or one for each.")
