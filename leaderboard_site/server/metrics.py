"""The metrics of connections, counted where a connection ends and not per request."""

from __future__ import annotations

from prometheus_client import Counter

requests_refused = Counter(
    "leaderboard_requests_refused",
    "Requests and handshakes that the server refused before the application saw them, or before it answered in time.",
    ["status"],
)
slow_closes = Counter("leaderboard_slow_closes", "Connections cut because their client read nothing of what waited.")
