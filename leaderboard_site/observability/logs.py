"""The format of log lines: JSON, or text for people. Never with the variables of a traceback: they may hold a token."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404
from django.http.multipartparser import MultiPartParserError
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.stdlib import ProcessorFormatter
from structlog.types import Processor

from .tracing import add_request

EVERY_LINE: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    add_request,
]
MAX_TEXT = 1_000  # characters: a client chooses its Host and path, which may have 64 KiB
# What Django raises to refuse a request. The line says all that there is: nothing has failed.
REFUSALS = (PermissionDenied, Http404, SuspiciousOperation, BadRequest, MultiPartParserError)


class RefusalFilter(logging.Filter):
    """Takes the traceback off lines about requests that were refused: a 403 of the admin, a Host that is not ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        # What reaches the server was refused by nobody.
        if record.exc_info and isinstance(record.exc_info[1], REFUSALS) and record.name != "uvicorn.error":
            record.exc_info = None
        return True


def shorten(logger: logging.Logger, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: cuts each text of a line to `MAX_TEXT`, and says how long it was.

    It comes before tracebacks become text, and so leaves them whole.
    """
    for key, value in event.items():
        if isinstance(value, str) and len(value) > MAX_TEXT:
            event[key] = f"{value[:MAX_TEXT]}… ({len(value):,} characters)"
    return event


def formatter(form: str) -> dict[str, Any]:
    """A formatter for LOGGING: `json`, or `console` (in colours if standard error is a terminal)."""
    ending: list[Processor]
    if form == "json":
        ending = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        # structlog's default shows the variables of each frame if rich is installed, which it is here.
        ending = [ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain_traceback, pad_event_to=0)]
    return {
        "()": ProcessorFormatter,
        "foreign_pre_chain": EVERY_LINE,  # the code logs through `logging`, as its libraries do
        "processors": [ProcessorFormatter.remove_processors_meta, shorten, *ending],
    }
