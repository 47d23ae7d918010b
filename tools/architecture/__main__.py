from __future__ import annotations

from tools.servers import ROOT

from .boxes import BOXES
from .imports import imports, without_shortcuts
from .picture import drawn

FILE = ROOT / "docs" / "images" / "architecture.svg"


def picture() -> str:
    return drawn(BOXES, without_shortcuts(imports()))


if __name__ == "__main__":
    FILE.write_text(picture())
