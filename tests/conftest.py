"""What several test files share."""

import os
import uuid
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("same", derandomize=True)
settings.load_profile(os.environ.get("POLYVEC_HYPOTHESIS", "same"))  # `default` draws new examples each time


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


@pytest.fixture
def file(tmp_path):
    """The pipeline file of a small project: words and nodes."""
    from tests.helpers_store import write_project

    return write_project(tmp_path)


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """`polyvec` in the test's folder, in this process."""
    from tests.flow_helpers import command_line

    return command_line(tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """Prefect's home of the session."""
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def server(home):
    """The address of the session's Prefect server."""
    from tests.flow_helpers import shared_server

    with shared_server(home) as url:
        yield url


@pytest.fixture
def stumble(tmp_path, monkeypatch):
    """An installed plug-in whose fit raises."""
    from embedders import registry
    from tests.flow_helpers import write_plugin

    monkeypatch.syspath_prepend(str(write_plugin(tmp_path / "site")))
    registry.known.cache_clear()
    yield
    monkeypatch.undo()
    registry.known.cache_clear()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of installed plug-ins whose rows are lines of a file."""
    from tests.helpers_incremental import installed

    with installed(tmp_path_factory.mktemp("plugin") / "site") as folder:
        yield folder


@pytest.fixture(scope="module")
def children(site):
    """Processes that can be killed."""
    from tests.helpers_children import nursery

    with nursery(site) as made:
        yield made


@pytest.fixture(scope="module")
def s3():
    """A server that speaks S3."""
    from tests import s3_server

    if reason := s3_server.missing():
        pytest.skip(reason)
    with s3_server.running() as found:
        yield found


@pytest.fixture
def address(s3, monkeypatch, tmp_path):
    """Where on it a store of the test's own is."""
    from tests import s3_server

    s3_server.use(s3, monkeypatch, tmp_path)
    s3.heal()
    return f"s3://{s3_server.BUCKET}/{uuid.uuid4().hex}"
