"""Requests for increments that are wrong in random ways: most of them nearly right, some far from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from urllib.parse import quote

PATH = "/api/v1/scores/increment"
JSON = b"application/json"
MAX_BODY = 40_000  # bytes; the service takes 16,384

NUMBERS = [
    "0",
    "-0",
    "1",
    "10",
    "-1",
    "1000000",
    "1000001",
    "9007199254740991",
    "9007199254740992",
    "9223372036854775808",
    "1e3",
    "1E400",
    "10.0",
    "1e-400",
    "0x10",
    "010",
    "+1",
    "1_0",
    ".5",
    "5.",
    "1e",
    "-",
    "NaN",
    "Infinity",
    "-Infinity",
    "true",
    "false",
    "null",
    '"10"',
    '""',
    '"',
    "10",
    '"',
    '"1e3"',
    '"\\u0661\\u0660"',
    "[]",
    "[10]",
    "{}",
    '{"points":10}',
]
NAMES = ["points", "Points", "point\\u0073", "p\\u006fints", "", "action", "__proto__", "points ", "\\ud800", "\\u0000"]
TEXTS = [
    "\ufeff",
    "\0",
    "\u2028",
    "é",
    "🏆",
    "\\",
    '"',
    "\\u",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "//",
    "/**/",
    "'",
    "\x7f",
]
TYPES = [
    b"", b"json", b"text/plain", b"application/json; charset=utf-8", b"application/json; charset=punycode", b"*/*",
    b"application/json; charset=utf-16", b"application/json;charset", b"application/json; a=b; charset=\"utf-8\"",
    b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"multipart/form-data", b"\xff/\xfe",
    b"application/problem+json", b"application/json, text/plain", b"application/json; charset=" + b"x" * 5_000,
]  # fmt: skip
VALUES = [b"", b" ", b"\xff", b"\xc3\xa9", b"0", b"-1", b"*", b"a" * 300, b"a" * 9_000, b"%00", b'"', b",", b";", b"()"]
NAMED = [
    b"Accept", b"Accept-Encoding", b"Content-Encoding", b"Cookie", b"Expect", b"Forwarded", b"If-None-Match", b"Origin",
    b"Idempotency-Key", b"Range", b"Referer", b"Te", b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto",
    b"X-HTTP-Method-Override", b"X-Request-Id", b"Accept-Language", b"Authorization", b"Content-Type", b"Host",
]  # fmt: skip
METHODS = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


@dataclass
class Case:
    token: str
    method: str = "POST"
    path: str = PATH
    body: bytes = b'{"points": 10}'
    content_type: bytes | None = JSON
    chunked: bool = False
    more: list[tuple[bytes, bytes]] = field(default_factory=list)  # headers


def cases(random: Random, tokens: list[str]) -> Iterator[Case]:
    """Endless; the same generator makes the same cases."""
    while True:
        case = Case(random.choice(tokens))
        for bend in random.choices(BENDS, WEIGHTS, k=random.choice((1, 1, 1, 2, 3))):
            bend(case, random)
        case.body = case.body[:MAX_BODY]
        yield case


def another_number(case: Case, random: Random) -> None:
    case.body = b'{"points": %s}' % random.choice(NUMBERS).encode()


def another_object(case: Case, random: Random) -> None:
    names = random.choices(NAMES, k=random.randrange(4))
    members = [f'"{name}": {random.choice(NUMBERS)}' for name in ["points", *names]]
    random.shuffle(members)
    case.body = f"{{{', '.join(members)}}}".encode()


def another_action(case: Case, random: Random) -> None:
    action: object = random.choice(
        ["quest", "", "quest\n", "\0", "x" * 64, "x" * 65, "é", "\ud800", 7, None, True, [], {}]
    )
    case.body = json.dumps({"action": action}).encode()


def bytes_changed(case: Case, random: Random) -> None:
    body = bytearray(case.body)
    for _ in range(random.randrange(1, 6)):
        if not body:
            return
        body[random.randrange(len(body))] = random.randrange(256)
    case.body = bytes(body)


def bytes_moved(case: Case, random: Random) -> None:
    one, other = sorted(random.randrange(len(case.body) + 1) for _ in range(2))
    part = case.body[one:other]
    case.body = random.choice((case.body[:one] + case.body[other:], case.body[:other] + part * 3, part, case.body * 2))


def text_inserted(case: Case, random: Random) -> None:
    at = random.randrange(len(case.body) + 1)
    case.body = case.body[:at] + random.choice(TEXTS).encode() * random.choice((1, 1, 2, 40)) + case.body[at:]


def nested(case: Case, random: Random) -> None:
    depth = random.choice((2, 15, 16, 17, 100, 5_000, 16_000))
    opening, closing = random.choice(((b"[", b"]"), (b'{"a":', b"}")))
    case.body = random.choice(
        (opening * depth, opening * depth + b"1" + closing * depth, b'{"points": %s' % opening * depth)
    )


def long(case: Case, random: Random) -> None:
    length = random.choice((4_299, 4_301, 16_000, 16_384, 16_385, 30_000))
    filling = random.choice((b" ", b"1", b"a", b"\xff", b'{"a":1,', b'"', b"\\", b"-"))
    case.body = random.choice((b'{"points": %s}', b"%s", b'{"points": 10, "a": "%s"}')) % (
        filling * (length // len(filling))
    )


def another_encoding(case: Case, random: Random) -> None:
    text = case.body.decode("latin-1")
    case.body = text.encode(random.choice(("utf-16", "utf-32", "utf-7", "cp037", "utf-8-sig")), "replace")


def noise(case: Case, random: Random) -> None:
    case.body = random.randbytes(random.randrange(200))


def another_type(case: Case, random: Random) -> None:
    case.content_type = random.choice([None, *TYPES])


def in_chunks(case: Case, random: Random) -> None:
    case.chunked = True


def more_headers(case: Case, random: Random) -> None:
    for _ in range(random.choice((1, 1, 2, 30))):
        case.more.append((random.choice(NAMED), random.choice(VALUES)))


def another_key(case: Case, random: Random) -> None:
    case.more.append(
        (b"Idempotency-Key", random.choice((b"k%d" % random.randrange(50), random.randbytes(8).hex().encode())))
    )


def another_token(case: Case, random: Random) -> None:
    token = case.token
    at = random.randrange(len(token) + 1)
    case.token = random.choice(
        (token[:at], token[:at] + random.choice("aZ.-_=é ") + token[at + 1 :], token + token, "", ".")
    )


def another_method(case: Case, random: Random) -> None:
    case.method = random.choice(METHODS)


def for_another(case: Case, random: Random) -> None:
    user = random.choice(
        ["ann", "a/b", "", "a\0", "é", "e\u0301", "🏆", "x" * 256, "..", "%", "scores/increment", "a?b#c"]
    )
    case.path = f"/api/v1/users/{quote(user, safe=random.choice(('', '/')))}/scores/increment"


def another_path(case: Case, random: Random) -> None:
    at = random.randrange(1, len(case.path) + 1)
    case.path = (
        case.path[:at]
        + random.choice(["/", "//", "%00", "%ff", "%2e%2e/", "?", "?points=10", ";", "%", "é"])
        + case.path[at:]
    )


Bend = Callable[[Case, Random], None]
WEIGHTED: dict[Bend, int] = {
    another_number: 6, another_object: 6, bytes_changed: 8, bytes_moved: 5, text_inserted: 6, another_action: 2, nested: 2,
    long: 2, another_encoding: 2, noise: 2, another_type: 4, in_chunks: 2, more_headers: 5, another_key: 3,
    another_token: 3, another_method: 1, for_another: 2, another_path: 1,
}  # fmt: skip
BENDS, WEIGHTS = list(WEIGHTED), list(WEIGHTED.values())
