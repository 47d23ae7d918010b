"""What is installed is what is safe to install."""

from __future__ import annotations

import json
import re

import pytest

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
LOCKS = ("requirements.txt", "requirements-dev.txt")


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
    run, dev = (versions(lock) for lock in LOCKS)

    assert {name: (version, dev[name]) for name, version in run.items() if dev.get(name, version) != version} == {}


def test_the_lock_of_npm_names_contents_and_no_registry() -> None:
    """So that any mirror will do, and none can send something else."""
    lock = json.loads((ROOT / "tools" / "typescript" / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}

    assert packages
    assert [name for name, package in packages.items() if "integrity" not in package] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
