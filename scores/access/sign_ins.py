"""A log line for each failed sign-in, in the admin and at the API: as whom and from where, never with a password."""

from __future__ import annotations

import logging
from ipaddress import ip_address
from typing import Any

from .client_address import UNKNOWN

logger = logging.getLogger(__name__)

LONGEST = 64  # characters of a username that are logged


def log_failure(*, credentials: dict[str, Any], request: Any = None, **more: Any) -> None:
    """A receiver of Django's `user_login_failed`. `request` is Django's, DRF's or none."""
    username = str(credentials.get("username", ""))
    shown = username if len(username) <= LONGEST else f"{username[:LONGEST]}…"
    # %r: whoever writes the name could otherwise write lines of the log, or turn the text of one around.
    logger.warning("A sign-in as %r from %s failed", shown, address_of(request))


def address_of(request: Any) -> str:
    """The client address. Behind a trusted proxy, clients may have written it: only an address is one."""
    try:
        return str(ip_address(request.META.get("REMOTE_ADDR", "")))
    except (AttributeError, ValueError):
        return UNKNOWN
