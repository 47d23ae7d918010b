"""The files around the code run what the project runs, and name what there is. Most of them cannot be started here."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.servers import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MANIFESTS = {
    "pip": "requirements.txt",
    "npm": "package-lock.json",
    "docker": "Dockerfile",
    "github-actions": ".github/workflows/check.yml",
}


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def supported_pythons() -> list[str]:
    """Of `requires-python`, such as `>=3.11,<3.14`."""
    least, below = map(int, re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    return [f"3.{minor}" for minor in range(least, below)]


def test_continuous_integration_runs_the_gate_on_every_python_that_is_supported() -> None:
    (job,) = read(".github/workflows/check.yml")["jobs"].values()

    assert job["strategy"]["matrix"]["python"] == supported_pythons()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make check")


def test_the_makefile_and_the_readme_name_the_same_pythons() -> None:
    (fitting,) = re.findall(r"^fitting := .*,([\d. ]+)\)$", MAKEFILE, re.MULTILINE)

    assert fitting.split() == supported_pythons()
    *first, last = supported_pythons()
    assert f"Python {', '.join(first)} or {last}" in (ROOT / "README.md").read_text()


def test_the_hooks_are_the_parts_of_the_gate_that_need_no_network_and_no_minutes() -> None:
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    (parts,) = re.findall(r"^check: ([a-z ]+?) +##", MAKEFILE, re.MULTILINE)

    hooked = [hook["entry"].removeprefix("make ") for hook in repository["hooks"]]

    assert hooked == [part for part in parts.split() if part not in ("audit", "test")]
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in repository["hooks"])


def test_updates_are_asked_for_where_there_is_something_to_update() -> None:
    for update in read(".github/dependabot.yml")["updates"]:
        folder = ROOT / update["directory"].strip("/")
        assert (folder / MANIFESTS[update["package-ecosystem"]]).exists()


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")), ids=lambda path: str(path.name)
)
def test_a_form_for_an_issue_has_what_github_asks_of_it(path: Path) -> None:
    form = yaml.safe_load(path.read_text())

    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_the_dev_container_is_a_supported_python_and_calls_a_target_of_make() -> None:
    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text()
    described = json.loads(re.sub(r"^//.*\n", "", text, flags=re.MULTILINE))

    (python,) = re.findall(r"/python:([\d.]+)-", described["image"])
    (target,) = re.findall(r"\bmake (\w+)$", described["postCreateCommand"])
    assert python in supported_pythons()
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


def test_the_licence_is_the_one_that_the_metadata_names() -> None:
    text = (ROOT / "LICENSE").read_text()

    assert text.startswith("BSD 3-Clause License\n")
    assert PROJECT["license"] == "BSD-3-Clause"
    assert PROJECT["license-files"] == ["LICENSE"]
    assert PROJECT["authors"] == [{"name": "The Leaderboard authors"}]
    assert "The Leaderboard authors\n" in text
