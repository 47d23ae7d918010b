"""One case after the other against a running server, and what must never come of it."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

from .cases import Case

MAX_CPU_MS = 50.0  # of the server's processes, for one request
SURE_TO_BE_READ = 16 * 1024  # bytes; the line under a longer body may be cut before the answer is read
LOOK_EVERY = 500  # cases
WARM_UP = 50
DEAR_MS = 5.0
TRIES = 3


@dataclass
class Report:
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)  # by status and code
    written: int = 0  # by answers of 200
    cpu_ms: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def slowest_ms(self) -> float:
        return max(self.cpu_ms, default=0.0)

    @property
    def median_ms(self) -> float:
        return sorted(self.cpu_ms)[len(self.cpu_ms) // 2] if self.cpu_ms else 0.0


def run(cases: Iterable[Case], port: int, pids: Iterable[int], events: Callable[[], int]) -> Report:
    """Send `cases` to the server at `port`, whose processes are `pids`; `events` counts the rows of its log.

    Nobody else may write meanwhile: every row has to belong to an answer of 200.
    """
    report = Report()
    before = events()
    meter = Meter(pids)
    with closing(Line(port)) as line:
        for case in repeat(Case(token=""), WARM_UP):  # what a process does once it does for the first
            line.send(case)
        for number, case in enumerate(cases, 1):
            status, code, cost = one(case, line, meter, report)
            report.answers[status, code] += 1
            report.cpu_ms.append(cost)
            if status >= 500 or (status == 0 and len(case.body) <= SURE_TO_BE_READ):
                report.faults.append(f"case {number}: {status} {code}: {case}")
            if cost > MAX_CPU_MS:
                report.faults.append(f"case {number}: {cost:.0f} ms of CPU: {case}")
            if number % LOOK_EVERY == 0:
                compare(report, events() - before)
    compare(report, events() - before)
    return report


def one(case: Case, line: Line, meter: Meter, report: Report) -> tuple[int, str, float]:
    """Send a case; its status, code and CPU in ms. One that seems dear is sent again: the process does other things too."""
    costs: list[float] = []
    while not costs or (costs[-1] > DEAR_MS and len(costs) < TRIES):
        used = meter.ns()
        status, code, replayed = line.send(case)
        costs.append((meter.ns() - used) / 1e6)
        report.written += status == 200 and case.method == "POST" and not replayed
    return status, code, min(costs)


def compare(report: Report, rows: int) -> None:
    if rows != report.written:
        report.faults.append(f"{rows} rows in the log after {report.written} answers of 200")


class Line:
    """A connection that is made anew when it is gone."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)

    def send(self, case: Case) -> tuple[int, str, bool]:
        """Status, code of the problem, and whether it was a replay; 0 if there was no answer."""
        connection = self._connection
        try:
            connection.putrequest(case.method, quoted(case.path), skip_accept_encoding=True)
            connection.putheader("Authorization", f"Bearer {case.token}".encode())
            if case.content_type is not None:
                connection.putheader("Content-Type", case.content_type)
            for name, value in case.more:
                connection.putheader(name, value)
            if case.chunked:
                connection.putheader("Transfer-Encoding", "chunked")
                halves = case.body[: len(case.body) // 2], case.body[len(case.body) // 2 :]
                connection.endheaders(iter([half for half in halves if half]), encode_chunked=True)
            else:
                connection.putheader("Content-Length", str(len(case.body)))
                connection.endheaders(case.body)
            with connection.getresponse() as answer:
                body = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0, "no answer", False
        if answer.will_close:
            connection.close()
        return answer.status, code_of(answer, body), answer.getheader("Idempotency-Replayed") == "true"

    def close(self) -> None:
        self._connection.close()


def quoted(path: str) -> str:
    return path.encode().decode("latin-1") if path.isascii() else path.encode("ascii", "xmlcharrefreplace").decode()


def code_of(answer: http.client.HTTPResponse, body: bytes) -> str:
    kind = answer.getheader("Content-Type", "")
    if kind == "application/problem+json" and body:
        return str(json.loads(body)["code"])
    return kind if answer.status >= 400 else ""


class Meter:
    """How long some processes have run, all their threads together."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = list(pids)

    def ns(self) -> int:
        total = 0
        for pid in self._pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                try:
                    total += int((task / "schedstat").read_text().split()[0])
                except (FileNotFoundError, ProcessLookupError):  # the thread has ended
                    pass
        return total
