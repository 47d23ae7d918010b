"""Takes an event back: whoever has the scope `events:void`."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.settings import api_settings

from scores import services
from scores.access.authentication import AuthenticatedRequest, InsufficientScope
from scores.access.throttling import IncrementThrottle
from scores.exceptions import UnknownEvent
from scores.log.token_uses import token_uses
from scores.scopes import Scope

from .async_view import AsyncView, json_response
from .headers import record_headers

EVENT_ID = re.compile("[1-9][0-9]{0,17}")  # a text to clients; today the seq
MAX_REASON = 500  # characters


class VoidView(AsyncView):
    throttle = IncrementThrottle()

    def initial(self, request: AuthenticatedRequest, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        super().initial(request, *args, **kwargs)
        if request.method == "POST" and Scope.VOID_EVENTS not in request.user.scopes:
            raise InsufficientScope(Scope.VOID_EVENTS)

    async def post(self, request: AuthenticatedRequest, event_id: str) -> HttpResponse:
        reason = reason_of(request.data)
        if not EVENT_ID.fullmatch(event_id):
            raise UnknownEvent
        service = request.user
        recorded = await services.void(seq=int(event_id), actor=service.user_id, token=service.token, reason=reason)
        token_uses.note(service.token)
        return json_response({"success": True, "eventId": str(recorded.seq)}, record_headers(recorded))


def reason_of(body: Any) -> str:
    """The `reason` of a body, which may be missing as a whole: it is stored with the event, for ever."""
    if not isinstance(body, dict):  # no body at all is an empty one, to the framework
        raise ValidationError({api_settings.NON_FIELD_ERRORS_KEY: ["Expected an object."]}, "invalid")
    reason = body.get("reason", "")
    if not isinstance(reason, str):
        raise ValidationError({"reason": ["Expected a text."]}, "is_no_text")
    if len(reason) > MAX_REASON:
        raise ValidationError({"reason": [f"Expected at most {MAX_REASON} characters."]}, "too_long")
    if "\0" in reason or any("\ud800" <= character <= "\udfff" for character in reason):
        raise ValidationError({"reason": ["Expected a text without NUL and halves of characters."]}, "invalid")
    return reason
