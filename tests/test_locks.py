"""What is installed is what is safe to install."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.servers import ROOT

# Below these there are known vulnerabilities, which the packages that need them do not all rule out themselves.
FLOORS = {
    "django": (5, 2, 14),
    "djangorestframework": (3, 18, 3),
    "pyjwt": (2, 15, 1),
    "djangorestframework-simplejwt": (5, 5, 1),
    "daphne": (4, 2, 2),
    "autobahn": (26, 10, 1),
}
LOCKS = ("requirements.txt", "requirements-analytics.txt", "requirements-dev.txt")
SERVED = ("leaderboard_site", "realtime", "scores")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = PYPROJECT["dependency-groups"]
ANALYTICS = PYPROJECT["project"]["dependencies"] + PYPROJECT["project"]["optional-dependencies"]["analytics"]
RANGES = {
    "requirements.txt": PYPROJECT["project"]["dependencies"],
    "requirements-analytics.txt": ANALYTICS,
    "requirements-dev.txt": ANALYTICS + GROUPS["dev"],
    "requirements-local.txt": GROUPS["local"],
}


def versions(lock: str) -> dict[str, tuple[int, ...]]:
    pinned = re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([\d.]+)", (ROOT / lock).read_text(), re.MULTILINE)
    return {name.lower(): tuple(map(int, version.split("."))) for name, version in pinned}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_the_security_floors(lock: str) -> None:
    locked = versions(lock)

    assert {name: locked[name] for name in FLOORS if locked[name] < FLOORS[name]} == {}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_everything(lock: str) -> None:
    lines = [line for line in (ROOT / lock).read_text().splitlines() if line and not line.startswith("#")]

    assert [line for line in lines if "==" not in line] == []


def test_both_locks_agree() -> None:
    run, *_, dev = (versions(lock) for lock in LOCKS)

    assert {name: (version, dev[name]) for name, version in run.items() if dev.get(name, version) != version} == {}


def test_the_lock_of_npm_names_contents_and_no_registry() -> None:
    """So that any mirror will do, and none can send something else."""
    lock = json.loads((ROOT / "tools" / "typescript" / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}

    assert packages
    assert [name for name, package in packages.items() if "integrity" not in package] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []


def pins(lock: str) -> Iterator[Requirement]:
    for line in (ROOT / lock).read_text().splitlines():
        if line and not line.startswith("#"):
            yield Requirement(line)


@pytest.mark.parametrize("lock", RANGES)
def test_a_lock_keeps_to_the_ranges(lock: str) -> None:
    locked: dict[str, set[str]] = {}
    for pin in pins(lock):  # several of a name where its version depends on the platform
        locked.setdefault(canonicalize_name(pin.name), set()).update(part.version for part in pin.specifier)

    broken = {}
    for text in RANGES[lock]:
        wanted = Requirement(text)
        versions = locked.get(canonicalize_name(wanted.name), set())
        if not versions or not all(wanted.specifier.contains(version) for version in versions):
            broken[text] = versions
    assert broken == {}


def imported() -> set[str]:
    """The top-level modules that the service's code imports when it runs."""
    names = set()
    for path in (path for package in SERVED for path in (ROOT / package).rglob("*.py")):
        nodes: list[ast.AST] = [ast.parse(path.read_text())]
        while nodes:
            match node := nodes.pop():
                case ast.If(test=ast.Name("TYPE_CHECKING")):
                    continue
                case ast.Import():
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                case ast.ImportFrom(module=str(module), level=0):
                    names.add(module.partition(".")[0])
            nodes += ast.iter_child_nodes(node)
    return names - sys.stdlib_module_names - set(SERVED)


def test_what_is_imported_is_declared() -> None:
    """A package that is there only because another one needs it may be gone, or another version, after any `make lock`."""
    declared = {canonicalize_name(Requirement(text).name) for text in ANALYTICS}
    installed = packages_distributions()

    assert [n for n in imported() if declared.isdisjoint(map(canonicalize_name, installed[n]))] == []
