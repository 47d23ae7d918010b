"""The DRF view whose handlers are coroutines, with the one parser, the one renderer and the encoder of all of them."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any, ClassVar, NoReturn, cast

from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.views import APIView

from scores.access.authentication import key_fetched
from scores.access.throttling import ReadThrottle, Throttle
from scores.exceptions import KeyAwaited

from .negotiation import OnlyJSON
from .parsers import StrictJSONParser

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

PARSERS: list[BaseParser] = [StrictJSONParser()]
NEGOTIATOR = OnlyJSON()


class AsyncView(APIView):
    """A DRF view whose handlers are coroutines.

    DRF 3.18 is sync, and packages that wrap it hop to a thread for `initial`, which costs more than everything else
    here. Authentication, permissions and parsing do no I/O, so they run on the event loop; problems are rendered here
    as well, because Django would hop to a thread for that too. Objects that DRF creates per request although they are
    always the same are created once per class: docs/adr/0011 has the figures.
    """

    format_kwarg = None
    authenticators: ClassVar[list[BaseAuthentication]]
    permissions: ClassVar[list[Any]]  # their type has a private name in the stubs
    throttle: Throttle = ReadThrottle()
    head: Any

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.authenticators = [authenticator() for authenticator in cls.authentication_classes]
        cls.permissions = [permission() for permission in cls.permission_classes]
        if hasattr(cls, "get"):  # or Django gives each view one, bound to it: a cycle that holds the request
            cls.head = cls.get

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        self.args, self.kwargs = args, kwargs
        self.request = wrapped = self.initialize_request(request, *args, **kwargs)
        self.headers: dict[str, str] = {}
        try:
            try:
                self.initial(wrapped, *args, **kwargs)
            except KeyAwaited:  # rare: see docs/adr/0015
                await key_fetched()
                self.initial(wrapped, *args, **kwargs)
            if (rate := self.throttle.rate) is not None:
                self.headers = await self.throttle.admit(wrapped, rate)
            method = (request.method or "").lower()
            is_known = method in self.http_method_names
            handler = getattr(self, method, self.http_method_not_allowed) if is_known else self.http_method_not_allowed
            response = await cast("Awaitable[HttpResponse]", handler(wrapped, *args, **kwargs))
        except Exception as error:
            problem = self.handle_exception(error)
            self.finalize_response(wrapped, problem, *args, **kwargs)
            rendered = cast("HttpResponse", problem.render())
            cast("dict[str, Any]", vars(problem)["renderer_context"]).clear()  # has the response itself: a cycle, too
            return rendered
        finally:
            wrapped.parser_context.clear()  # or it makes a cycle for the garbage collector
        for name, value in self.headers.items():
            response.headers[name] = value
        return response

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """As in DRF, without versions and formats, of which there is one each."""
        self.perform_authentication(request)
        self.check_permissions(request)

    def get_authenticators(self) -> list[BaseAuthentication]:
        return self.authenticators

    def get_permissions(self) -> list[Any]:
        return self.permissions

    def get_parsers(self) -> list[BaseParser]:
        return PARSERS

    def get_content_negotiator(self) -> BaseContentNegotiation:
        return NEGOTIATOR

    async def options(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        return HttpResponse(status=204, headers={"Allow": ", ".join(self.allowed_methods)})

    def http_method_not_allowed(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        self.headers["Allow"] = ", ".join(self.allowed_methods)  # RFC 9110, section 15.5.6
        raise MethodNotAllowed(request.method or "")


def json_response(body: dict[str, Any], headers: dict[str, str]) -> HttpResponse:
    """A successful response. DRF's `Response` and its template layer would double the cost of an increment's view."""
    return HttpResponse(encode(body).encode(), content_type="application/json", headers=headers)
