"""Which box imports which, as import-linter's own library reads it from the code."""

from __future__ import annotations

from collections import defaultdict

import grimp

from .boxes import BOXES, LEFT_OUT, STORE

PACKAGES = ("leaderboard_site", "realtime", "scores")

Arrow = tuple[str, str]  # from the name of a box to that of another


def imports() -> set[Arrow]:
    """Of the drivers of stores only those in `scores` count: the site reads the stores' addresses and names their errors."""
    stores = {box.name for box in BOXES if box.kind == STORE}
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    found = set()
    for importer in graph.modules:
        if not is_ours(importer) or (source := box_of(importer)) is None:
            continue
        for imported in graph.find_modules_directly_imported_by(importer):
            target = box_of(imported)
            if target is None or target == source:
                continue
            if target not in stores or is_within(importer, "scores"):
                found.add((source, target))
    return found


def box_of(module: str) -> str | None:
    """The name of the box that `module` is in, `None` for what is not drawn; LookupError for what ought to be."""
    for box in BOXES:
        if any(is_within(module, package) for package in box.modules):
            return box.name
    if not is_ours(module) or module in PACKAGES or any(is_within(module, package) for package in LEFT_OUT):
        return None
    raise LookupError(f"{module} has no place in the picture. Give it one in tools/architecture/boxes.py")


def is_ours(module: str) -> bool:
    return any(is_within(module, package) for package in PACKAGES)


def is_within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def without_shortcuts(arrows: set[Arrow]) -> set[Arrow]:
    """Only the arrows that no longer way implies: with all of them nobody sees the order for the lines."""
    targets = defaultdict(set)
    for source, target in arrows:
        targets[source].add(target)

    def reached_from(name: str) -> set[str]:
        return targets[name].union(*(reached_from(target) for target in targets[name]))

    return {
        (source, target)
        for source, target in arrows
        if not any(target in reached_from(between) for between in targets[source] - {target})
    }
