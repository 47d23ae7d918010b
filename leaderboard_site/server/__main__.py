from __future__ import annotations

from .uvicorn_server import main

if __name__ == "__main__":  # not in the workers, which import this module under another name
    main()
