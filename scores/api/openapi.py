"""The HTTP API for machines: what drf-spectacular cannot derive from the views. Generates docs/openapi.yaml.

Adds responses, headers and errors to each view, without changing views or serializers. docs/protocol.md says the same
in prose, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiViewExtension,
)
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view

from scores.boards.documents import (
    CHOICES,
    MAX_EVERY_HOURS,
    MAX_KEEP,
    MAX_SEASONS,
    MAX_SETTLE_S,
    MAX_TITLE,
    MAX_URL,
    SECRET_LENGTHS,
    WEEKDAYS,
)
from scores.entries import MAX_ENTRIES
from scores.models import BOARD_NAME, MAX_TOTAL
from scores.user_id import MAX_LENGTH

from .analytics import MAX_DAYS, MAX_HOUR_DAYS, MAX_WEEKS
from .problems import CONTENT_TYPE
from .views import MAX_PER_PAGE

Schema = dict[str, Any]
Errors = Mapping[int, Sequence[str]]
Responses = dict[Any, OpenApiResponse]

# Shapes

USER_ID: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_LENGTH, "examples": ["ada"]}
TOTAL: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_TOTAL}
SCORE: Schema = {"type": "integer", "minimum": -MAX_TOTAL, "maximum": MAX_TOTAL, "examples": [83211]}
EVENT_ID: Schema = {"type": "string", "examples": ["17"]}
COUNT: Schema = {"type": "integer", "minimum": 0}
TOKEN: Schema = {"type": "string", "description": "A JSON Web Token."}
RANK: Schema = {
    "type": "integer",
    "minimum": 1,
    "description": "One plus the number of users with a strictly higher score.",
}


def shape(**properties: Schema) -> Schema:
    """An object with all of these keys. Later versions may add more, which clients must ignore."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def body(**properties: Schema) -> Schema:
    return {"application/json": shape(**properties)}


MOMENT: Schema = {"type": "string", "format": "date-time"}
BOARD: dict[str, Schema] = {
    "name": {"type": "string", "pattern": f"^{BOARD_NAME}$", "examples": ["weekly"]},
    "title": {"type": "string", "maxLength": MAX_TITLE, "default": ""},
    "fold": {"type": "string", "enum": CHOICES["fold"]},
    "order": {"type": "string", "enum": CHOICES["order"], "default": "higher", "description": "Which score is better."},
    "ties": {"type": "string", "enum": CHOICES["ties"], "default": "first"},
    "period": {"type": "string", "enum": CHOICES["period"], "default": "forever"},
    "zone": {"type": "string", "default": "UTC", "examples": ["Europe/Berlin"]},
    "cutTime": {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$", "default": "00:00"},
    "cutWeekday": {"type": "string", "enum": list(WEEKDAYS), "default": "monday"},
    "everyHours": {"type": "integer", "minimum": 1, "maximum": MAX_EVERY_HOURS},
    "anchor": MOMENT,
    "seasons": {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_SEASONS,
        "items": {
            "type": "object",
            "properties": {"startsAt": MOMENT, "endsAt": MOMENT},
            "required": ["startsAt", "endsAt"],
        },
    },
    "stream": {
        "oneOf": [{"type": "boolean"}, {"type": "string", "pattern": f"^{BOARD_NAME}$"}],
        "default": False,
        "description": "True: it counts a stream of its own instead of the default points. A name: the stream of that board.",
    },
    "action": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$"},
    "least": SCORE | {"description": "Of one submission."},
    "most": SCORE | {"description": "Of one submission."},
    "submitters": {"type": "string", "enum": CHOICES["submitters"], "default": "players"},
    "keep": {"type": "integer", "minimum": 0, "maximum": MAX_KEEP, "description": "Ended periods; absent: all."},
    "isPublic": {"type": "boolean", "default": True},
    "archived": {"type": "boolean", "default": False},
    "settleSeconds": {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_SETTLE_S,
        "default": 600,
        "description": "From the end of a period until it closes.",
    },
    "rewards": {
        "type": "object",
        "additionalProperties": {"type": "integer", "minimum": 1},
        "examples": [{"1": 500, "2": 250, "3-10": 50}],
        "description": "Points by place or range of places, given when a period closes.",
    },
    "webhookUrl": {
        "type": "string",
        "maxLength": MAX_URL,
        "examples": ["https://game.example/hooks/leaderboard"],
        "description": "Where a signed message says that a period closed.",
    },
    "webhookSecret": {
        "type": "string",
        "minLength": SECRET_LENGTHS[0],
        "maxLength": SECRET_LENGTHS[1],
        "writeOnly": True,
        "description": "With which messages are signed. No answer has it.",
    },
}

MOMENT_OR_NONE: Schema = {"type": ["string", "null"], "format": "date-time"}
SEQ: Schema = COUNT | {"description": "The answer is the state right after this event."}
OF_PERIOD: dict[str, Schema] = {
    "board": BOARD["name"],
    "period": {"type": "integer", "minimum": 1},
    "startsAt": MOMENT_OR_NONE,
    "endsAt": MOMENT_OR_NONE,
}
IS_CURRENT: Schema = {"type": "boolean", "description": "Whether it has begun and not ended."}
ROW: dict[str, Schema] = {
    "rank": RANK | {"description": "One plus the number of users with a better score."},
    "position": {"type": "integer", "minimum": 1, "description": "Unlike the rank, not shared by equal scores."},
    "userId": USER_ID,
    "score": SCORE,
}

DAY: Schema = {"type": "string", "format": "date", "examples": ["2026-11-26"]}
RANGE: dict[str, Schema] = {"from": DAY, "to": DAY | {"description": "Included."}}


def analytics_shape(**properties: Schema) -> Schema:
    return shape(**properties, seq=SEQ, asOf=MOMENT_OR_NONE | {"description": "Up to this moment, nothing is missing."})


SHAPES: dict[str, Schema] = {
    "Board": {"type": "object", "properties": BOARD, "required": ["name", "fold"]},
    "Boards": shape(
        boards={
            "type": "array",
            "items": shape(
                **{
                    name: BOARD[name]
                    for name in ("name", "title", "fold", "order", "ties", "period", "zone", "archived")
                },
                current={
                    "oneOf": [
                        {"type": "null"},
                        shape(
                            number={"type": "integer", "minimum": 1},
                            startsAt=MOMENT_OR_NONE,
                            resetsAt=MOMENT_OR_NONE,
                        ),
                    ],
                    "description": "The period that is under way.",
                },
            ),
        }
    ),
    "BoardPage": shape(
        **OF_PERIOD,
        isCurrent=IS_CURRENT,
        leaderboard={"type": "array", "maxItems": MAX_PER_PAGE, "items": shape(**ROW)},
        total=COUNT | {"description": "Users on the board in this period."},
        seq=SEQ,
    ),
    "BoardPeriods": shape(
        board=BOARD["name"],
        periods={
            "type": "array",
            "maxItems": MAX_PER_PAGE,
            "items": shape(
                **{name: OF_PERIOD[name] for name in ("period", "startsAt", "endsAt")},
                isCurrent=IS_CURRENT,
                closedAt=MOMENT_OR_NONE,
            ),
        },
    ),
    "BoardPlace": shape(
        **OF_PERIOD, **ROW, total=COUNT | {"description": "Users on the board in this period."}, seq=SEQ
    ),
    "Results": shape(
        board={"type": "string"},
        period={"type": "integer", "minimum": 1},
        startsAt={"type": ["string", "null"], "format": "date-time"},
        endsAt={"type": ["string", "null"], "format": "date-time"},
        closedAt=MOMENT,
        results={
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "place": {"type": "integer", "minimum": 1, "description": "Of this user alone."},
                    "userId": USER_ID,
                    "score": SCORE,
                    "reward": {"type": "integer", "minimum": 1, "description": "Points that the place earns, if any."},
                },
                "required": ["place", "userId", "score"],
            },
        },
    ),
    "ActivePlayers": analytics_shape(
        by={"type": "string", "enum": ["day", "week"]},
        **RANGE,
        rows={
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "day": DAY,
                    "week": DAY | {"description": "Its Monday; with `by=week`, instead of `day`."},
                    "players": COUNT,
                },
                "required": ["players"],
            },
        },
    ),
    "NewPlayers": analytics_shape(**RANGE, rows={"type": "array", "items": shape(day=DAY, players=COUNT)}),
    "Hours": analytics_shape(
        **RANGE,
        rows={
            "type": "array",
            "items": shape(
                hour=MOMENT | {"description": "Its beginning."},
                increments=COUNT,
                points=COUNT | {"description": "Of increments, whether they were taken back or not."},
                scores=COUNT | {"description": "Of streams."},
                voids=COUNT,
                voided={"type": "integer", "description": "Points that voids of this hour took back."},
            ),
        },
    ),
    "TopActions": analytics_shape(
        **RANGE,
        rows={
            "type": "array",
            "maxItems": MAX_PER_PAGE,
            "items": shape(
                action={"type": "string"}, increments=COUNT, points=COUNT, voids=COUNT, voided={"type": "integer"}
            ),
        },
    ),
    "Retention": analytics_shape(
        weeks={"type": "integer", "minimum": 1, "maximum": MAX_WEEKS},
        rows={
            "type": "array",
            "items": shape(
                cohort=DAY | {"description": "The Monday of the week in which these players first played."},
                week=COUNT | {"description": "So many weeks later; 0 is that week itself."},
                players=COUNT,
                share={
                    "type": ["number", "null"],
                    "minimum": 0,
                    "maximum": 1,
                    "description": "Of the cohort; null if it has no player.",
                },
            ),
        },
    ),
    "SocketPeaks": analytics_shape(
        **RANGE,
        rows={
            "type": "array",
            "items": shape(
                hour=MOMENT | {"description": "Its beginning."},
                peak={
                    "type": ["integer", "null"],
                    "minimum": 0,
                    "description": "The most sockets that were open at once; null if nobody counted.",
                },
            ),
        },
    ),
    "Incremented": shape(success={"type": "boolean", "const": True}, newScore=TOTAL) | {"additionalProperties": False},
    "BatchResults": shape(
        recorded=COUNT,
        refused=COUNT,
        results={
            "type": "array",
            "description": "One for each entry, in order.",
            "items": {
                "oneOf": [
                    {
                        "type": "object",
                        "properties": {
                            "success": {"type": "boolean", "const": True},
                            "newScore": SCORE | {"description": "The new total; of a score, the score."},
                            "seq": {"type": "integer", "minimum": 1},
                            "replayed": {
                                "type": "boolean",
                                "const": True,
                                "description": "Present if an earlier request with the same key made this change.",
                            },
                        },
                        "required": ["success", "newScore", "seq"],
                    },
                    {
                        "type": "object",
                        "properties": {
                            "success": {"type": "boolean", "const": False},
                            "status": {
                                "type": "integer",
                                "description": "That a request for this change alone would get.",
                            },
                            "code": {"type": "string"},
                            "detail": {"type": "string"},
                            "retryAfter": {
                                "type": "integer",
                                "minimum": 1,
                                "description": "Seconds, with a cooldown or cap.",
                            },
                        },
                        "required": ["success", "status", "code", "detail"],
                    },
                ]
            },
        },
    ),
    "Queued": shape(
        success={"type": "boolean", "const": True},
        queued={"type": "boolean", "const": True},
        key={"type": "string", "description": "Of the request, or made for it."},
    ),
    "Counted": {
        "type": "object",
        "properties": {
            "success": {"type": "boolean", "const": True},
            "newScore": TOTAL,
            "board": BOARD["name"] | {"description": "In the place of `newScore`, if the key is that of a score."},
            "score": SCORE,
            "seq": {"type": "integer", "minimum": 1},
        },
        "required": ["success", "seq"],
    },
    "Submitted": shape(
        success={"type": "boolean", "const": True},
        eventId=EVENT_ID,
        board={"type": "string"},
        score=SCORE,
    ),
    "Voided": shape(
        success={"type": "boolean", "const": True},
        eventId=EVENT_ID | {"description": "Of the event that takes the other one back."},
    ),
    "Leaderboard": shape(
        leaderboard={
            "type": "array",
            "maxItems": MAX_PER_PAGE,
            "items": shape(rank=RANK, userId=USER_ID, score=TOTAL),
        },
        total=COUNT | {"description": "Users on the board."},
        seq=SEQ,
    ),
    "Standing": shape(
        userId=USER_ID,
        score=TOTAL,
        rank=RANK,
        total=COUNT | {"description": "Users on the board."},
        seq=SEQ,
    ),
    "Registered": shape(userId=USER_ID, access=TOKEN, refresh=TOKEN),
    "TokenPair": shape(access=TOKEN, refresh=TOKEN),
    "Problem": shape(
        type={"type": "string", "const": "about:blank"},
        title={"type": "string"},
        status={"type": "integer"},
        detail={"type": "string", "description": "For people; may change."},
        code={"type": "string", "description": "For programs; stable."},
    ),
}
# `errors` is present if the error is in a field, `mistakes` if it is in the definition of a board.
SHAPES["BoardPlace"]["properties"] |= {
    "eventId": EVENT_ID | {"description": "With which the user reached the score; with `metadata=1` only."},
    "metadata": {"description": "Of that event, or null; with `metadata=1` only."},
}
SHAPES["Problem"]["properties"]["mistakes"] = {
    "type": "array",
    "items": shape(field={"type": "string"}, code={"type": "string"}, detail={"type": "string"}),
}
SHAPES["Problem"]["properties"]["errors"] = {
    "type": "object",
    "additionalProperties": {"type": "array", "items": {"type": "string"}},
}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


# Errors

JSON_CODES = (
    "invalid_utf8",
    "invalid_json",
    "json_too_deep",
    "duplicate_key",
    "invalid_number",
    "number_too_long",
    "trailing_text",
    "byte_order_mark",
    "invalid_body",
)
TEXT_CODES = (
    "required",
    "null",
    "blank",
    "invalid",
    "null_characters_not_allowed",
    "surrogate_characters_not_allowed",
)
UNANSWERED = ("overloaded", "outcome_unknown", "unavailable")
NO_TOKEN = ("not_authenticated", "token_expired", "token_invalid")
# Errors of every request, before it reaches a view or when the view fails.
ANY: Errors = {400: ["bad_request"], 408: ["body_too_slow"], 413: ["body_too_large"], 500: ["internal_error"]}
WITH_BODY: Errors = {400: JSON_CODES, 415: ["unsupported_media_type"]}
LIMITED: Errors = {429: ["rate_limited"]}


# Not the phrases of `HTTPStatus`, which differ between versions of Python.
MEANING = {
    400: "The request is wrong",
    401: "No valid token",
    403: "Not permitted",
    404: "Not there",
    406: "The client does not accept JSON",
    408: "The body arrived too slowly",
    409: "Conflicts with the current state",
    413: "The body is too large",
    415: "The body is not JSON in UTF-8",
    422: "The idempotency key was used for another change",
    429: "Too many requests",
    500: "An error of the service",
    503: "Unavailable right now",
}


def of_field(name: str, *codes: str) -> tuple[str, ...]:
    return tuple(f"{name}_{code}" for code in codes)


def merged(*errors: Errors) -> dict[int, list[str]]:
    result: dict[int, list[str]] = {}
    for group in errors:
        for status, codes in group.items():
            result.setdefault(status, []).extend(codes)
    return dict(sorted(result.items()))


def refusals(*errors: Errors) -> Responses:
    """Problem details by status, each with its possible codes."""
    return {
        (status, CONTENT_TYPE): OpenApiResponse(
            {"allOf": [ref("Problem")], "properties": {"status": {"const": status}, "code": {"enum": codes}}},
            description=MEANING[status],
        )
        for status, codes in merged(*errors).items()
    }


# Headers


def header(name: str, description: str, schema: Schema, *statuses: int, required: bool = True) -> OpenApiParameter:
    """A header of the responses with these statuses."""
    return OpenApiParameter(
        name, schema, OpenApiParameter.HEADER, description=description, required=required, response=list(statuses)
    )


POSITION = "Opaque: where in the log the answer is. Only the service compares two of them."


def position(*statuses: int) -> OpenApiParameter:
    return header("X-Leaderboard-Position", POSITION, {"type": "string"}, *statuses)


def freshness(*statuses: int) -> list[OpenApiParameter]:
    return [
        header(
            "X-Leaderboard-Source",
            "Which store answered.",
            {"type": "string", "enum": ["redis", "database"]},
            *statuses,
        ),
        header("X-Leaderboard-Seq", "The answer is the state right after this event.", COUNT, *statuses),
        position(*statuses),
        header(
            "X-Leaderboard-Age",
            "Seconds since the service last knew that there are no newer events.",
            {"type": "number", "minimum": 0},
            *statuses,
        ),
    ]


USER_IN_PATH = OpenApiParameter(
    "user_id", USER_ID, OpenApiParameter.PATH, description="Percent-encoded; slashes may stay as they are."
)
RETRY_AFTER = header("Retry-After", "Seconds to wait.", {"type": "integer", "minimum": 0}, 429, 503)
CHALLENGE = header("WWW-Authenticate", "As in RFC 6750.", {"type": "string"}, 401)


def limits(*statuses: int) -> list[OpenApiParameter]:
    """The headers of draft-ietf-httpapi-ratelimit-headers-10, which are sent while the limit is on."""
    return [
        header("RateLimit-Policy", "The limit.", {"type": "string"}, *statuses, required=False),
        header("RateLimit", "What is left of it.", {"type": "string"}, *statuses, required=False),
    ]


# Operations


_described: dict[str, dict[str, Any]] = {}  # by view and method


def operation(target: str, method: str, **description: Any) -> None:
    """Describe `method` of the view `target`. The extension registers itself, and there may be one for a view."""
    is_first = target not in _described
    methods = _described.setdefault(target, {})
    methods[method] = extend_schema(**description)

    def view_replacement(self: OpenApiViewExtension) -> type[Any]:
        return extend_schema_view(**methods)(type("Described", (self.target,), {}))

    if is_first:
        type(target, (OpenApiViewExtension,), {"target_class": target, "view_replacement": view_replacement})


POINTS: Schema = {"type": "integer", "minimum": 1, "maximum": settings.MAX_POINTS}
ACTION: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$", "examples": ["quest_complete"]}
EVENT_HEADERS = [
    header("X-Leaderboard-Seq", "Number of the event.", {"type": "integer", "minimum": 1}, 200),
    position(200),
]
INCREMENT_PARAMETERS = [
    OpenApiParameter(
        "Idempotency-Key",
        {"type": "string", "pattern": "^[!-~]{1,255}$"},
        OpenApiParameter.HEADER,
        description="A repeated request with the same key returns the result of the first one.",
    ),
    *EVENT_HEADERS,
    header(
        "Idempotency-Replayed",
        "Present if this is the result of an earlier request with the same key.",
        {"type": "string", "const": "true"},
        200,
        required=False,
    ),
    *limits(200, 429),
    CHALLENGE,
    RETRY_AFTER,
]
NUMBER_CODES = ("required", "null", "is_float", "is_text", "is_boolean", "not_integer", "too_small", "too_large")
INCREMENT_ERRORS: Errors = {
    400: (
        *of_field("points", *NUMBER_CODES),
        "points_and_action",
        "action_invalid",
        "unknown_action",
        "idempotency_key_invalid",
    ),
    401: NO_TOKEN,
    403: ["user_blocked", "user_inactive", "points_not_allowed", "service_has_no_score", "only_game_servers"],
    409: ["total_too_large", "action_not_open"],
    422: ["idempotency_key_reused"],
    429: ["action_cooling_down", "action_cap_reached"],
    503: UNANSWERED,
}


def increment_operation(
    target: str,
    *errors: Errors,
    parameters: Sequence[OpenApiParameter] = (),
    also: Responses | None = None,
    **description: Any,
) -> None:
    operation(
        target,
        "post",
        tags=["scores"],
        request={"application/json": {"oneOf": [shape(points=POINTS), shape(action=ACTION)]}},
        parameters=[*parameters, *INCREMENT_PARAMETERS],
        responses={200: OpenApiResponse(ref("Incremented"), description="The new total")}
        | (also or {})
        | refusals(ANY, WITH_BODY, LIMITED, INCREMENT_ERRORS, *errors),
        **description,
    )


IN_QUEUE = OpenApiResponse(ref("Queued"), description="In the queue")
increment_operation(
    "scores.api.views.IncrementView",
    {503: ["broker_away"]},
    parameters=[
        OpenApiParameter(
            "Prefer",
            {"type": "string", "examples": ["respond-async"]},
            OpenApiParameter.HEADER,
            description="`respond-async`: answer when the change is in the queue, where there is a broker (RFC 7240).",
        ),
        header("Location", "Where to ask what became of it.", {"type": "string"}, 202),
        header("Preference-Applied", "The preference.", {"type": "string", "const": "respond-async"}, 202),
        header("Idempotency-Key", "As in the body.", {"type": "string"}, 202),
    ],
    also={202: IN_QUEUE},
    operation_id="increment",
    summary="Add points to the score of the token's user",
    description="Either points, or an action of the catalogue, which defines its points. 200 means that the change is "
    "durable. After a 503 with a code other than `overloaded` it may have been made: retry with the same Idempotency-Key.",
)
increment_operation(
    "scores.api.views.UserIncrementView",
    {400: ["user_id_invalid"], 401: ["token_revoked"], 403: ["insufficient_scope"]},
    operation_id="incrementUser",
    summary="Add points to the score of a player, for a game server",
    description="As `POST /api/v1/scores/increment`, for a token with the scope `scores:write:any`.",
    parameters=[USER_IN_PATH],
)

operation(
    "scores.api.queued.QueuedView",
    "get",
    operation_id="queued",
    tags=["scores"],
    summary="What became of an increment that was queued",
    description="If it was refused, the problem that a request would have got.",
    parameters=[
        OpenApiParameter("key", {"type": "string"}, OpenApiParameter.PATH, description="Percent-encoded."),
        *EVENT_HEADERS,
        *limits(200, 202, 429),
        header("Retry-After", "Seconds to wait.", {"type": "integer", "minimum": 0}, 202, 429, 503),
        CHALLENGE,
    ],
    responses={200: OpenApiResponse(ref("Counted"), description="In the log"), 202: IN_QUEUE}
    | refusals(
        ANY,
        LIMITED,
        {
            400: ["idempotency_key_invalid", "unknown_action"],
            401: NO_TOKEN,
            403: ["service_has_no_score", "user_blocked", "user_inactive", "only_game_servers"],
            404: ["not_found"],
            409: ["total_too_large", "action_not_open"],
            422: ["idempotency_key_reused"],
            429: ["action_cooling_down", "action_cap_reached"],
            503: UNANSWERED,
        },
    ),
)

ENTRY: Schema = {
    "type": "object",
    "properties": {
        "userId": USER_ID,
        "points": POINTS,
        "action": ACTION,
        "board": BOARD["name"],
        "score": SCORE,
        "metadata": {"description": "Any JSON of at most 1,024 bytes."},
        "key": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    },
    "required": ["userId"],
    "oneOf": [{"required": ["points"]}, {"required": ["action"]}, {"required": ["board", "score"]}],
}
operation(
    "scores.api.batch.BatchView",
    "post",
    operation_id="batch",
    tags=["scores"],
    summary="Make up to 1,000 changes of many players, for a game server",
    description="For a token with the scope `scores:batch`. Entries succeed or fail alone. A retry of the whole request counts "
    "each entry with a `key` once. As NDJSON, an entry is a line, and a line that is no JSON fails alone, too.",
    request={
        "application/json": {"type": "array", "minItems": 1, "maxItems": MAX_ENTRIES, "items": ENTRY},
        "application/x-ndjson": {"type": "string"},
    },
    parameters=[
        header("X-Leaderboard-Position", POSITION, {"type": "string"}, 200, required=False),
        CHALLENGE,
        RETRY_AFTER,
    ],
    responses={200: OpenApiResponse(ref("BatchResults"), description="An answer for each entry")}
    | refusals(
        ANY,
        WITH_BODY,
        {
            400: ["entries_out_of_range"],
            401: [*NO_TOKEN, "token_revoked"],
            403: ["insufficient_scope"],
            503: UNANSWERED,
        },
    ),
)

BOARD_IN_PATH = OpenApiParameter("board", {"type": "string"}, OpenApiParameter.PATH, description="Name of the board.")
SUBMISSION_ERRORS: Errors = {
    400: (
        *of_field("score", *NUMBER_CODES, "out_of_range"),
        *of_field("metadata", "invalid", "too_large"),
        "idempotency_key_invalid",
    ),
    401: NO_TOKEN,
    403: ["user_blocked", "user_inactive", "service_has_no_score", "only_game_servers"],
    404: ["board_unknown"],
    409: ["board_has_no_stream", "board_archived", "board_not_open"],
    422: ["idempotency_key_reused"],
    503: UNANSWERED,
}


def submission_operation(
    target: str, *errors: Errors, parameters: Sequence[OpenApiParameter] = (), **description: Any
) -> None:
    content = shape(score=SCORE)
    content["properties"]["metadata"] = {"description": "Any JSON of at most 1,024 bytes."}
    operation(
        target,
        "post",
        tags=["boards"],
        request={"application/json": content},
        parameters=[BOARD_IN_PATH, *parameters, *INCREMENT_PARAMETERS],
        responses={200: OpenApiResponse(ref("Submitted"), description="Recorded")}
        | refusals(ANY, WITH_BODY, LIMITED, SUBMISSION_ERRORS, *errors),
        **description,
    )


submission_operation(
    "scores.api.submissions.SubmissionView",
    operation_id="submit",
    summary="Record a score of the token's user for a board with a stream of its own",
    description="It is added to no total. 200 means that the score is durable.",
)
submission_operation(
    "scores.api.submissions.UserSubmissionView",
    {400: ["user_id_invalid"], 401: ["token_revoked"], 403: ["insufficient_scope"], 404: ["not_found"]},
    operation_id="submitForUser",
    summary="Record a score of a player, for a game server",
    description="For a token with the scope `scores:write:any`.",
    parameters=[
        OpenApiParameter(
            "user_id", USER_ID, OpenApiParameter.PATH, description="One segment: a slash is sent as `%2F`."
        )
    ],
)
operation(
    "scores.api.voids.VoidView",
    "post",
    operation_id="void",
    tags=["scores"],
    summary="Take an increment or a score back",
    description="For a token with the scope `events:void`.",
    request={"application/json": {"type": "object", "properties": {"reason": {"type": "string", "maxLength": 500}}}},
    parameters=[
        OpenApiParameter("event_id", EVENT_ID, OpenApiParameter.PATH, description="As an earlier answer named it."),
        *EVENT_HEADERS,
        *limits(200, 429),
        CHALLENGE,
        RETRY_AFTER,
    ],
    responses={200: OpenApiResponse(ref("Voided"), description="Taken back")}
    | refusals(
        ANY,
        WITH_BODY,
        LIMITED,
        {
            400: (*of_field("reason", "is_no_text", "too_long", "invalid"), "total_out_of_range"),
            401: [*NO_TOKEN, "token_revoked"],
            403: ["insufficient_scope", "user_blocked"],
            404: ["unknown_event"],
            409: ["already_voided", "not_voidable"],
            503: UNANSWERED,
        },
    ),
)

DIGITS = ("invalid", "null_characters_not_allowed")
PAGE_PARAMETERS = [
    OpenApiParameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": MAX_PER_PAGE, "default": 10}, OpenApiParameter.QUERY
    ),
    OpenApiParameter(
        "offset", {"type": "integer", "minimum": 0, "maximum": 999_999_999, "default": 0}, OpenApiParameter.QUERY
    ),
]
PAGE_ERRORS: Errors = {400: (*of_field("limit", *DIGITS, "out_of_range"), *of_field("offset", *DIGITS))}
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", {"type": "string"}, OpenApiParameter.HEADER, description="The ETag of an earlier response."
)
operation(
    "scores.api.views.LeaderboardView",
    "get",
    operation_id="leaderboard",
    tags=["board"],
    summary="A page of the board",
    parameters=[
        *PAGE_PARAMETERS,
        IF_NONE_MATCH,
        header("ETag", "Made of board, epoch, seq, limit and offset.", {"type": "string"}, 200, 304),
        header("Cache-Control", "Revalidate before each use.", {"type": "string", "const": "no-cache"}, 200, 304),
        *freshness(200, 304),
        *limits(200, 304, 429),
        RETRY_AFTER,
    ],
    responses={
        200: OpenApiResponse(ref("Leaderboard"), description="Best first"),
        304: OpenApiResponse(description="No new events since that ETag"),
    }
    | refusals(
        ANY,
        LIMITED,
        PAGE_ERRORS,
        {503: UNANSWERED},
    ),
)


def user_operation(target: str, **description: Any) -> None:
    operation(
        target,
        "get",
        tags=["board"],
        parameters=[
            USER_IN_PATH,
            *freshness(200, 404),
            *limits(200, 404, 429),
            RETRY_AFTER,
        ],
        responses={200: OpenApiResponse(ref("Standing"), description="On the board")}
        | refusals(ANY, LIMITED, {404: ["no_score"], 503: UNANSWERED}),
        **description,
    )


user_operation("scores.api.views.UserView", operation_id="user", summary="Score and rank of a user")
user_operation(
    "scores.api.views.UserIncrementView",
    operation_id="userNamedSo",
    summary="Score and rank of a user whose id ends as this address does",
    description="As `GET /api/v1/users/{userId}`, of the user with the id `{userId}/scores/increment`.",
    auth=[{}],
)

operation(
    "scores.api.views.MeView",
    "get",
    operation_id="me",
    tags=["board"],
    summary="Score and rank of the token's user",
    parameters=[*freshness(200, 404), *limits(200, 404, 429), CHALLENGE, RETRY_AFTER],
    responses={200: OpenApiResponse(ref("Standing"), description="On the board")}
    | refusals(
        ANY,
        LIMITED,
        {
            401: [*NO_TOKEN, "token_revoked"],
            403: ["user_blocked", "user_inactive", "service_has_no_score"],
            404: ["no_score"],
            503: UNANSWERED,
        },
    ),
)

# Boards

BOARD_IN_PATH = OpenApiParameter("board", BOARD["name"], OpenApiParameter.PATH)
MANAGED: Errors = {
    401: [*NO_TOKEN, "token_revoked"],
    403: ["user_blocked", "user_inactive", "insufficient_scope"],
    503: UNANSWERED,
}

operation(
    "scores.api.boards.BoardsView",
    "get",
    operation_id="boards",
    tags=["boards"],
    summary="The boards that everybody may see",
    description="The default board first, then the others by name.",
    parameters=[
        header("Cache-Control", "An answer is good for a second.", {"type": "string"}, 200),
        position(200),
        *limits(200, 429),
        RETRY_AFTER,
    ],
    responses={200: OpenApiResponse(ref("Boards"), description="All public boards")}
    | refusals(ANY, LIMITED, {503: UNANSWERED}),
    auth=[{}],
)
operation(
    "scores.api.boards.BoardsView",
    "post",
    operation_id="createBoard",
    tags=["boards"],
    summary="Make a board",
    description="For a token with the scope `boards:manage`. The board counts all events of its source in the log, "
    "those of the past as well.",
    request={"application/json": ref("Board")},
    parameters=[
        header("Location", "The address of the board.", {"type": "string"}, 201),
        *limits(201, 429),
        CHALLENGE,
        RETRY_AFTER,
    ],
    responses={201: OpenApiResponse(ref("Board"), description="Made")}
    | refusals(ANY, WITH_BODY, LIMITED, MANAGED, {400: ["board_invalid"], 409: ["board_exists", "boards_too_many"]}),
)
PERIOD = OpenApiParameter(
    "period",
    {"type": "string", "default": "current", "examples": ["current", "previous", "2026-11-26", "7"]},
    OpenApiParameter.QUERY,
    description="`current`, `previous`, a date in the board's zone, or the number of a period.",
)
# A private board is read with any token that is good.
READ: Errors = {
    401: [*NO_TOKEN, "token_revoked"],
    403: ["user_blocked", "user_inactive"],
    404: ["board_unknown"],
    503: UNANSWERED,
}
OF_ONE_PERIOD: Errors = {400: ["period_invalid"], 404: ["period_unknown"], 503: ["board_building"]}
PRIVATE = header(
    "Cache-Control",
    "Of a board that is not public.",
    {"type": "string", "const": "private, no-cache"},
    200,
    required=False,
)
ANYBODY_OR_TOKEN: list[dict[str, list[str]]] = [{}, {"accessToken": []}]

operation(
    "scores.api.boards.BoardView",
    "get",
    operation_id="board",
    tags=["boards"],
    summary="A page of a period of a board",
    description="Needs a token, of anybody, if the board is not public.",
    parameters=[
        BOARD_IN_PATH,
        PERIOD,
        *PAGE_PARAMETERS,
        IF_NONE_MATCH,
        header("ETag", "Made of board, epoch, period, seq, limit, offset and body.", {"type": "string"}, 200, 304),
        header(
            "Cache-Control",
            "Revalidate before each use.",
            {"type": "string", "enum": ["no-cache", "private, no-cache"]},
            200,
            304,
        ),
        *freshness(200, 304),
        *limits(200, 304, 429),
        CHALLENGE,
        RETRY_AFTER,
    ],
    responses={
        200: OpenApiResponse(ref("BoardPage"), description="Best first"),
        304: OpenApiResponse(description="Nothing new since that ETag"),
    }
    | refusals(ANY, LIMITED, PAGE_ERRORS, READ, OF_ONE_PERIOD),
    auth=ANYBODY_OR_TOKEN,
)
operation(
    "scores.api.board_reads.BoardPeriodsView",
    "get",
    operation_id="boardPeriods",
    tags=["boards"],
    summary="The periods of a board that have begun",
    description="The newest first.",
    parameters=[BOARD_IN_PATH, *PAGE_PARAMETERS, PRIVATE, position(200), *limits(200, 429), CHALLENGE, RETRY_AFTER],
    responses={200: OpenApiResponse(ref("BoardPeriods"), description="The newest first")}
    | refusals(ANY, LIMITED, PAGE_ERRORS, READ),
    auth=ANYBODY_OR_TOKEN,
)


def place_operation(target: str, **description: Any) -> None:
    operation(
        target,
        "get",
        tags=["boards"],
        parameters=[
            BOARD_IN_PATH,
            OpenApiParameter(
                "user_id", USER_ID, OpenApiParameter.PATH, description="One segment: a slash is sent as `%2F`."
            ),
            PERIOD,
            OpenApiParameter(
                "metadata",
                {"type": "string", "enum": ["0", "1", "false", "true"]},
                OpenApiParameter.QUERY,
                description="Whether to tell the event with which the user reached the score, and its metadata.",
            ),
            # A 404 of the place has the headers of a read, that of a board or period that is not there does not.
            *freshness(200),
            *limits(200, 404, 429),
            CHALLENGE,
            RETRY_AFTER,
        ],
        responses={200: OpenApiResponse(ref("BoardPlace"), description="On the board")}
        | refusals(
            ANY,
            LIMITED,
            READ,
            OF_ONE_PERIOD,
            {400: ["metadata_not_a_choice"], 404: ["no_score", "not_found"]},
        ),
        auth=ANYBODY_OR_TOKEN,
        **description,
    )


place_operation(
    "scores.api.board_reads.BoardUserView",
    operation_id="boardUser",
    summary="The place of a user in a period of a board",
)
place_operation(
    "scores.api.submissions.UserSubmissionView",
    operation_id="boardUserNamedSo",
    summary="The place of a user whose id ends as this address does",
    description="As `GET /api/v1/boards/{board}/users/{user_id}`, of the user with the id `{user_id}/scores`, of which the "
    "last slash is sent as `%2F`, too.",
)
operation(
    "scores.api.boards.BoardView",
    "patch",
    operation_id="changeBoard",
    tags=["boards"],
    summary="Change a board",
    description="For a token with the scope `boards:manage`. A field that is null gets its default.",
    request={"application/json": {"type": "object", "properties": BOARD}},
    parameters=[BOARD_IN_PATH, *limits(200, 429), CHALLENGE, RETRY_AFTER],
    responses={200: OpenApiResponse(ref("Board"), description="As it is now")}
    | refusals(
        ANY,
        WITH_BODY,
        LIMITED,
        MANAGED,
        {400: ["board_invalid"], 404: ["board_unknown"], 409: ["board_fixed", "board_archived"]},
    ),
)
operation(
    "scores.api.boards.BoardView",
    "delete",
    operation_id="deleteBoard",
    tags=["boards"],
    summary="Delete a board with its standings",
    description="For a token with the scope `boards:manage`. The events stay in the log.",
    parameters=[BOARD_IN_PATH, *limits(204, 429), CHALLENGE, RETRY_AFTER],
    responses={204: OpenApiResponse(description="Deleted")}
    | refusals(ANY, LIMITED, MANAGED, {404: ["board_unknown"], 409: ["board_fixed", "board_stream_in_use"]}),
)
operation(
    "scores.api.results.BoardResultsView",
    "get",
    operation_id="boardResults",
    tags=["boards"],
    summary="The results of a period that has closed",
    description="The first 100 places, or as many as have a reward. They never change. A private board needs a token.",
    parameters=[
        BOARD_IN_PATH,
        OpenApiParameter(
            "period",
            {"type": "string", "default": "previous"},
            description="`previous`, `current`, a date such as `2026-11-26`, or the number of a period.",
        ),
        PRIVATE,
        position(200),
        *limits(200, 429),
        CHALLENGE,
        RETRY_AFTER,
    ],
    responses={200: OpenApiResponse(ref("Results"), description="Final")}
    | refusals(
        ANY,
        LIMITED,
        {
            400: ["period_invalid"],
            401: [*NO_TOKEN, "token_revoked"],
            403: ["user_blocked", "user_inactive"],
            404: ["board_unknown", "period_unknown", "period_not_closed"],
            503: UNANSWERED,
        },
    ),
    auth=[{}, {"accessToken": []}],
)

# Analytics


def analytics_operation(
    target: str, shape: str, *parameters: OpenApiParameter, errors: Errors | None = None, **description: Any
) -> None:
    csv = {"type": "string", "description": "A header, and the keys of the rows as columns."}
    operation(
        f"scores.api.analytics.{target}",
        "get",
        tags=["analytics"],
        description="For a token with the scope `analytics:read`. Days, weeks and hours are those of UTC.",
        parameters=[
            *parameters,
            OpenApiParameter("format", {"type": "string", "enum": ["json", "csv"], "default": "json"}),
            *freshness(200),
            header("Cache-Control", "Not for all.", {"type": "string", "const": "private, no-cache"}, 200),
            *limits(200, 429),
            CHALLENGE,
            RETRY_AFTER,
        ],
        responses={
            (200, "application/json"): OpenApiResponse(ref(shape), description="As of an event"),
            (200, "text/csv"): OpenApiResponse(csv, description="As of an event"),
        }
        | refusals(
            ANY,
            LIMITED,
            MANAGED,
            errors or {},
            {400: ["format_not_a_choice"], 503: ["analytics_building"]},
        ),
        **description,
    )


def range_parameters(days: int, usual: int) -> list[OpenApiParameter]:
    return [
        OpenApiParameter("from", DAY, description=f"The first day; without it {usual} days up to the last."),
        OpenApiParameter("to", DAY, description=f"The last day, included; without it today. At most {days} days."),
    ]


OF_RANGE: Errors = {400: [*of_field("from", "invalid", "after_to", "too_early"), "to_invalid"]}
analytics_operation(
    "ActiveView",
    "ActivePlayers",
    OpenApiParameter("by", {"type": "string", "enum": ["day", "week"], "default": "day"}),
    *range_parameters(MAX_DAYS, 28),
    errors=merged(OF_RANGE, {400: ["by_not_a_choice"]}),
    operation_id="activePlayers",
    summary="Players who played, by day or week",
)
analytics_operation(
    "NewPlayersView",
    "NewPlayers",
    *range_parameters(MAX_DAYS, 28),
    errors=OF_RANGE,
    operation_id="newPlayers",
    summary="Players who played for the first time, by day",
)
analytics_operation(
    "RetentionView",
    "Retention",
    OpenApiParameter("weeks", {"type": "integer", "minimum": 1, "maximum": MAX_WEEKS, "default": 8}),
    errors={400: ["weeks_out_of_range"]},
    operation_id="retention",
    summary="Of those who first played in a week, who played in the weeks after it",
)
analytics_operation(
    "HoursView",
    "Hours",
    *range_parameters(MAX_HOUR_DAYS, 2),
    errors=OF_RANGE,
    operation_id="hours",
    summary="Increments, points, scores and voids by hour",
)
analytics_operation(
    "ActionsView",
    "TopActions",
    *range_parameters(MAX_HOUR_DAYS, 7),
    *PAGE_PARAMETERS,
    errors=merged(OF_RANGE, PAGE_ERRORS),
    operation_id="topActions",
    summary="The actions that were taken most",
)
analytics_operation(
    "SocketsView",
    "SocketPeaks",
    *range_parameters(MAX_HOUR_DAYS, 2),
    errors=OF_RANGE,
    operation_id="socketPeaks",
    summary="The most sockets that were open at once, by hour",
)

# Under /api/v1/auth/, which Django's own handler serves.
NEGOTIATED: Errors = {**ANY, **LIMITED, 406: ["not_acceptable"], 503: UNANSWERED}
TEXT: Schema = {"type": "string", "minLength": 1}

operation(
    "scores.api.tokens.RegisterView",
    "post",
    operation_id="register",
    tags=["tokens"],
    summary="Create a user and the first tokens",
    description="Only if `REGISTRATION` is `open`. The username, in Unicode normal form KC, becomes the user id. "
    "A retry within five minutes with the same username and password gets tokens again.",
    request=body(
        username=TEXT | {"maxLength": 150, "description": "Letters, digits and `@ . + - _`.", "examples": ["ada"]},
        password={"type": "string", "minLength": 8, "maxLength": 1024, "examples": ["notes on the engine"]},
    ),
    parameters=[*limits(201, 429), RETRY_AFTER],
    responses={201: OpenApiResponse(ref("Registered"), description="Registered")}
    | refusals(
        NEGOTIATED,
        WITH_BODY,
        {
            400: (
                *of_field("username", *TEXT_CODES, "max_length"),
                *of_field("password", *TEXT_CODES, "max_length", "too_weak"),
            ),
            403: ["registration_closed"],
            409: ["username_taken"],
        },
    ),
)

operation(
    "scores.api.tokens.SignInView",
    "post",
    operation_id="token",
    tags=["tokens"],
    summary="Tokens for a username and a password",
    request=body(username=TEXT | {"examples": ["ada"]}, password=TEXT | {"examples": ["notes on the engine"]}),
    parameters=[*limits(200, 204, 429), CHALLENGE, RETRY_AFTER],
    responses={200: OpenApiResponse(ref("TokenPair"), description="Signed in")}
    | refusals(
        NEGOTIATED,
        WITH_BODY,
        {400: (*of_field("username", *TEXT_CODES), *of_field("password", *TEXT_CODES)), 401: ["no_active_account"]},
    ),
)

operation(
    "scores.api.tokens.RefreshView",
    "post",
    operation_id="refresh",
    tags=["tokens"],
    summary="A new pair of tokens for a refresh token, which cannot be used again",
    description="A retry within 30 s gets the same new refresh token, until that one is used.",
    request=body(refresh=TEXT),
    parameters=[*limits(200, 204, 429), CHALLENGE, RETRY_AFTER],
    responses={200: OpenApiResponse(ref("TokenPair"), description="Refreshed")}
    | refusals(
        NEGOTIATED,
        WITH_BODY,
        {400: of_field("refresh", *TEXT_CODES), 401: ["token_expired", "token_invalid", "no_active_account"]},
    ),
)

operation(
    "scores.api.tokens.LogoutView",
    "post",
    operation_id="logout",
    tags=["tokens"],
    summary="Revoke a refresh token",
    description="Access tokens cannot be revoked: they stay valid until they expire, within minutes.",
    request=body(refresh=TEXT),
    parameters=[*limits(200, 204, 429), CHALLENGE, RETRY_AFTER],
    responses={204: OpenApiResponse(description="Revoked")}
    | refusals(NEGOTIATED, WITH_BODY, {400: of_field("refresh", *TEXT_CODES), 401: ["token_expired", "token_invalid"]}),
)


class BearerToken(OpenApiAuthenticationExtension):
    target_class = "scores.access.authentication.TokenAuthentication"
    name = "accessToken"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An access token, from `POST /api/v1/auth/register` or `POST /api/v1/auth/token`; "
            "or the token of a service, from an administrator.",
        }


def complete(result: Schema, generator: Any, request: Any, public: bool) -> Schema:
    """Last step of drf-spectacular: adds the schemas, sorts the responses by status, and makes bodies required."""
    for methods in result["paths"].values():
        for described in methods.values():
            if "requestBody" in described:
                described["requestBody"]["required"] = True
            described["responses"] = dict(sorted(described["responses"].items()))
    components = result["components"]
    components["schemas"] = dict(sorted((components.get("schemas", {}) | SHAPES).items()))
    return result
