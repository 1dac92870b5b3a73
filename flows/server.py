"""Start a Prefect server on 127.0.0.1 with polyvec's settings: `python -m flows.server 4200`."""

from __future__ import annotations

import os
import sys

from flows import settings


def main(port: str = "4200") -> None:
    """Become `prefect server start`; the UI is told the port, else it looks for the API on 4200."""
    settings.apply()
    os.environ.setdefault("PREFECT_SERVER_UI_API_URL", f"http://127.0.0.1:{port}/api")
    os.execv(
        sys.executable, [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
