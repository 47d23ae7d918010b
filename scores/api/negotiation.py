"""What a body may be, and what an answer is: JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.negotiation import BaseContentNegotiation, DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

UNCODED = frozenset(("", "identity"))


class UnsupportedCoding(UnsupportedMediaType):
    """415 with the codings that are supported: RFC 9110, sections 8.4 and 12.5.3."""

    headers: ClassVar[dict[str, str]] = {"Accept-Encoding": "identity"}

    def __init__(self) -> None:
        super().__init__("", "A body is sent as it is: no Content-Encoding is supported.")


def parser_of(request: Request, parsers: Sequence[BaseParser]) -> BaseParser | None:
    """The parser of the body's type. DRF's own choice would take a body of the type `*/*`."""
    coding = request.META.get("HTTP_CONTENT_ENCODING")
    if coding is not None and coding.strip().lower() not in UNCODED:
        raise UnsupportedCoding
    kind, _, _ = request.content_type.partition(";")
    kind = kind.strip().lower()
    return next((parser for parser in parsers if parser.media_type == kind), None)


class OnlyJSON(BaseContentNegotiation):
    """One renderer: there is nothing to negotiate, and a 406 helps no client."""

    def select_parser(self, request: Request, parsers: Sequence[BaseParser]) -> BaseParser | None:  # type: ignore[override]
        return parser_of(request, parsers)

    def select_renderer(  # type: ignore[override]
        self, request: Request, renderers: Sequence[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


class Negotiation(DefaultContentNegotiation):
    """DRF's own for answers, but an empty `Accept` is as good as none."""

    def select_parser(self, request: Request, parsers: Sequence[BaseParser]) -> BaseParser | None:  # type: ignore[override]
        return parser_of(request, parsers)

    def get_accept_list(self, request: Request) -> list[str]:
        return super().get_accept_list(request) if request.META.get("HTTP_ACCEPT", "").strip() else ["*/*"]
