"""Fuzz the increments of a server of its own, print what was answered, and fail on what must never happen."""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from random import Random

import jwt
from rich.console import Console
from rich.table import Table

from tools.chaos.world import Service, service
from tools.servers import ROOT

from . import schema
from .cases import cases
from .run import Report, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="of increments, and as many by the schema")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="to meet the same ones again")
    parser.add_argument("--schema", type=Path, default=ROOT / "docs" / "openapi.yaml")
    options = parser.parse_args()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as by Ctrl-C: nothing that was started stays
    console = Console()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, service(Path(folder)) as target:
        with target.postgresql.open() as database:
            database.execute("INSERT INTO actions VALUES ('quest', 5, 0, NULL, true)")
        tokens = [token(target, "ann"), token(target, "arena", "scores:write:any")]
        console.print(f"{options.cases} cases, --seed {options.seed}")
        bent = islice(cases(Random(options.seed), tokens), options.cases)
        report = run(bent, target.server.port, target.workers(), lambda: events(target))
        show(report, console)
        status = schema.run(options.schema, target.server.url, tokens[1], cases=options.cases, seed=options.seed)
        if status is None:
            console.print(f"There is no {options.schema.name}: the part by the schema was left out.")
    return 1 if report.faults or status else 0


def token(target: Service, user_id: str, scope: str = "") -> str:
    now = int(time.time())
    claims = {"token_type": "access", "user_id": user_id, "jti": "1", "iat": now, "exp": now + 7200, "scope": scope}
    return jwt.encode(claims, target.signing_key, "HS256")


def events(target: Service) -> int:
    with target.postgresql.open() as database:
        row = database.execute("SELECT count(*) FROM score_events").fetchone()
    assert row
    return int(row[0])


def show(report: Report, console: Console) -> None:
    table = Table("status", "code", "answers")
    for (status, code), count in sorted(report.answers.items()):
        table.add_row(str(status), code, str(count))
    console.print(table)
    console.print(f"{report.written} rows, each of an answer of 200")
    console.print(f"CPU of the server for a request: median {report.median_ms:.2f} ms, most {report.slowest_ms:.1f} ms")
    for fault in report.faults[:20]:
        console.print(fault, style="red", markup=False)


if __name__ == "__main__":
    sys.exit(main())
