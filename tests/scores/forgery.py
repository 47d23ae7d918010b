"""Tokens that no honest issuer makes, signed by hand: libraries refuse to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from django.conf import settings

HS256 = {"alg": "HS256", "typ": "JWT"}


def claims(**changed: Any) -> dict[str, Any]:
    """Those of a good access token for ann, but for what is `changed`; `...` leaves a claim out."""
    now = int(time.time())
    whole = {"token_type": "access", "user_id": "ann", "jti": "1", "iat": now, "exp": now + 600} | changed
    return {name: value for name, value in whole.items() if value is not ...}


def signed(payload: Any, *, header: Any = HS256, key: str | None = None) -> str:
    """A JWS with the HMAC of `key`, by default the service's own, whatever its header says."""
    secret: str = settings.SIMPLE_JWT["SIGNING_KEY"] if key is None else key
    body = f"{_part(json.dumps(header))}.{_part(json.dumps(payload))}"
    return f"{body}.{_part(hmac.digest(secret.encode(), body.encode(), hashlib.sha256))}"


def _part(content: str | bytes) -> str:
    raw = content if isinstance(content, bytes) else content.encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def nested_header(depth: int) -> str:
    """A token whose header is nothing but brackets. It needs no signature: headers are read before one is looked at."""
    return f"{_part('[' * depth)}.{_part('{}')}.{_part('-')}"
