"""What several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data():
    """Folder of a real dataset by its name; skips where it is not there (set POLYVEC_DATA to where it is)."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    root = Path(os.environ.get("POLYVEC_DATA", beside))

    def find(name):
        if not (root / name).is_dir():
            pytest.skip(f"no folder {name} in {root}; set POLYVEC_DATA to the folder that holds it")
        return root / name

    return find
