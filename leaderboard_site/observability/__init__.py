from __future__ import annotations

import sys

# structlog imports twisted if it is installed, for a module that is not used here. `None` makes that import fail.
sys.modules.setdefault("structlog.twisted", None)  # type: ignore[arg-type]
