from __future__ import annotations

import sys

# structlog imports twisted where it finds it, for a module that nobody here uses. `None` says that there is no such module.
sys.modules.setdefault("structlog.twisted", None)  # type: ignore[arg-type]
