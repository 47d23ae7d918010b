"""The format of log lines: JSON, or text for people. Never with the variables of a traceback: they may hold a token."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from io import StringIO
from typing import Any, TextIO

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.stdlib import ProcessorFormatter
from structlog.types import ExcInfo, Processor

from .tracing import add_request

EVERY_LINE: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    add_request,
]
MAX_TEXT = 1_000  # characters: a client chooses its Host and path, which may have 64 KiB
MAX_REQUEST = 200  # of the key `request`
MOST_NAMED = 100  # texts of a logger, so that a stranger who invents them fills neither log nor memory


class RefusalFilter(logging.Filter):
    """Drops Django's lines about requests that were answered with 4xx or 503: a stranger could fill the log.

    What is refused as suspicious, such as a foreign Host or the Origin of a form, often is a setting that is wrong. It
    has one line for each text, without a traceback: nothing has failed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._named: dict[str, set[str]] = {}  # texts by logger

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == "django.request":
            status: int = getattr(record, "status_code", 500)
            return status >= 500 and not (status == 503 and record.exc_info is None)
        if record.name.startswith("django.security."):
            record.exc_info = None
            return self._is_new(record)
        return True

    def _is_new(self, record: logging.LogRecord) -> bool:
        named = self._named.setdefault(record.name, set())
        text = str(record.args[0] if isinstance(record.args, tuple) and record.args else record.msg)  # not the path
        if text[:MAX_REQUEST] in named or len(named) >= MOST_NAMED:
            return False
        named.add(text[:MAX_REQUEST])
        record.msg = f"{record.msg} (said once)"
        if len(named) == MOST_NAMED:
            record.msg = f"{record.msg[:-1]}; {MOST_NAMED} are named by now, and no more will be)"
        return True


def tame(logger: logging.Logger, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: cuts each text of a line, and says how long it was; escapes what a terminal would obey.

    It comes before tracebacks become text, and so leaves them whole.
    """
    for key, value in event.items():
        if isinstance(value, str):
            most = MAX_REQUEST if key == "request" else MAX_TEXT
            shown = escaped(value[:most])[:most]
            event[key] = shown if len(value) <= most else f"{shown}… ({len(value):,} characters)"
    return event


def escaped(text: str) -> str:
    """The text with control characters, ends of lines and what turns text around as in a literal of Python."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def traceback_of(out: TextIO, exc_info: ExcInfo) -> None:
    """Writes a traceback whose lines are escaped: an exception may quote what a client sent."""
    whole = StringIO()
    plain_traceback(whole, exc_info)
    out.write("\n".join(escaped(line) for line in whole.getvalue().split("\n")))


def formatter(form: str) -> dict[str, Any]:
    """A formatter for LOGGING: `json`, or `console` (in colours if standard error is a terminal)."""
    ending: list[Processor]
    if form == "json":
        ending = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        # structlog's default shows the variables of each frame if rich is installed, which it is here.
        ending = [ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=traceback_of, pad_event_to=0)]
    return {
        "()": ProcessorFormatter,
        "foreign_pre_chain": EVERY_LINE,  # the code logs through `logging`, as its libraries do
        "processors": [ProcessorFormatter.remove_processors_meta, tame, *ending],
    }
