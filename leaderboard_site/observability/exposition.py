"""/metrics, for clients with METRICS_TOKEN: the metrics of all processes of this server, in Prometheus text format."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Iterable
from math import isnan
from pathlib import Path
from secrets import compare_digest

from django.conf import settings
from django.http import HttpResponse
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from leaderboard_site.asgi_types import Receive, Scope, Send
from leaderboard_site.version import VERSION
from scores.api import problems

PATH = f"{settings.URL_PREFIX}/metrics"

# Not an Info, which does not work with several processes. Each process sets its own, so that a partial update shows.
build_info = Gauge(
    "leaderboard_build_info",
    "1 for each version of the service, and of Python, that a process runs.",
    ["version", "python"],
    multiprocess_mode="livemax",
)
build_info.labels(VERSION, platform.python_version()).set(1)


async def exposition(scope: Scope, receive: Receive, send: Send) -> None:
    """404 if METRICS_TOKEN is not set, 401 for a request without it. Outside Django, like health: any Host may ask."""
    if not settings.METRICS_TOKEN:
        return await problems.send_response(
            problems.problem_response(404, "not_found", "There is nothing at this address."), send
        )
    if not _has_token(scope):
        headers = {"WWW-Authenticate": 'Bearer realm="metrics"'}
        detail = "Send METRICS_TOKEN as a bearer token."
        return await problems.send_response(
            problems.problem_response(401, "not_authenticated", detail, headers=headers), send
        )
    text = await asyncio.to_thread(render)  # reads a file per process and type of metric
    await problems.send_response(HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4), send)


def _has_token(scope: Scope) -> bool:
    sent = dict(scope["headers"]).get(b"authorization", b"")
    return compare_digest(sent, b"Bearer " + settings.METRICS_TOKEN.encode())


def render() -> bytes:
    """What all processes of this server say, without series that have no value any more."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    registry = CollectorRegistry()
    if folder is None:  # another server than ours, with one process
        registry.register(Present(REGISTRY))
        return generate_latest(registry)
    for file in Path(folder).glob("gauge_live*_*.db"):
        if not is_alive(process := int(file.stem.rpartition("_")[2])):
            mark_process_dead(process, folder)  # type: ignore[no-untyped-call]  # the package is partly typed
    registry.register(Present(MultiProcessCollector(None, folder)))  # type: ignore[no-untyped-call]
    return generate_latest(registry)


class Present(Collector):
    """The metrics of another collector without samples that are NaN: in several processes, no series can be removed."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        for metric in self._collector.collect():
            metric.samples = [sample for sample in metric.samples if not isnan(sample.value)]
            yield metric


def is_alive(process: int) -> bool:
    """A killed worker cannot report its end, and the supervisor is uvicorn's, which has no hook for it."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # the process belongs to another user, but the number is in use
    return True
