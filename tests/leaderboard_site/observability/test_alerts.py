"""Alerts and the dashboard ask for metrics that there are, and somebody who is woken finds out what to do."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import prometheus_client
import pytest
import yaml

import leaderboard_site.observability.exposition  # these five declare what is asked for
import leaderboard_site.observability.tracing
import leaderboard_site.server.metrics  # noqa: F401
import realtime.metrics  # noqa: F401
import scores.metrics  # noqa: F401
from tests.programs import needs
from tests.test_docs import rows, section
from tools.programs import program
from tools.servers import ROOT

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


def exposed() -> dict[str, str]:
    """The names of our samples, with the family's as it is written in the documents."""
    found = {}
    for family in prometheus_client.REGISTRY.collect():
        if family.name.startswith("leaderboard_"):
            for suffix in SUFFIXES[family.type]:
                found[family.name + suffix] = family.name + ("_total" if family.type == "counter" else "")
    return found


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())["panels"]
    return found


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bleaderboard_\w+", expression))


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_asks_for_metrics_that_there_are(alert: dict[str, Any]) -> None:
    assert names_in(alert["expr"]) <= exposed().keys()
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert alert["annotations"]["summary"]


@needs("promtool")
def test_prometheus_takes_the_alerts() -> None:
    promtool = program("promtool")
    assert promtool
    checked = subprocess.run([promtool, "check", "rules", ALERTS], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_has_a_line_that_says_what_to_do() -> None:
    lines = {name.strip("`"): todo for name, todo in rows(section(OPERATIONS, "## Alerts"))}

    assert lines.keys() == {alert["alert"] for alert in alerts()}
    assert all(lines.values())


def test_every_metric_is_explained() -> None:
    explained = {name for cell, _ in rows(section(OPERATIONS, "## Metrics")) for name in names_in(cell)}

    assert explained == set(exposed().values())


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    asked = {name for panel in panels() for target in panel["targets"] for name in names_in(target["expr"])}

    assert asked <= exposed().keys()
    assert {exposed()[name] for name in asked} == set(exposed().values())


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken = [
        (x, y)
        for at in (panel["gridPos"] for panel in panels())
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len(taken) == len(set(taken))
    assert len({panel["id"] for panel in panels()}) == len(panels())
