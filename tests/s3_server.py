"""An S3 server on this machine for tests: moto, in a process of its own on a free port of 127.0.0.1.

In this process it would share the interpreter's lock with delta-rs, and both would wait for ever. moto looks at
If-None-Match first and writes later, which a real server does in one step; here one lock makes it one step.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

KEY, SECRET, BUCKET = "tester", "not-a-secret", "vectors-bucket"
START = 60.0  # seconds that it may take to start
BROKEN = b"<Error><Code>InternalError</Code><Message>Told to fail.</Message></Error>"
REFUSED = b"<Error><Code>InvalidAccessKeyId</Code><Message>This key is not known here.</Message></Error>"


def missing() -> str:
    """Why there can be no server; "" where there can."""
    wanted = [name for name in ("moto", "flask", "flask_cors") if importlib.util.find_spec(name) is None]
    return f"{', '.join(wanted)} not installed; do: pip install -e '.[dev]'" if wanted else ""


@dataclass(frozen=True)
class Server:
    """A running server with one bucket. url: http://127.0.0.1:PORT."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make clients talk to it, and to nothing else."""
        nowhere = {name: os.devnull for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")}
        return nowhere | {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def files(self) -> Any:
        """pyarrow's view of it, from arguments and not from the environment."""
        from pyarrow.fs import S3FileSystem

        return S3FileSystem(
            access_key=KEY, secret_key=SECRET, region="us-east-1", endpoint_override=self.url,
            allow_bucket_creation=True, background_writes=False,
        )  # fmt: skip

    def requests(self) -> list[str]:
        """The requests since this was last asked, as "GET /bucket/key?query"."""
        with urllib.request.urlopen(f"{self.url}/-/requests", timeout=10) as answer:
            found: list[str] = json.load(answer)
        return found

    def fail(self, match: str, *, times: int, done: bool) -> None:
        """Answer the next requests that match an expression with an internal error. done: after doing what was asked."""
        query = urlencode({"match": match, "times": times, "done": done})
        urllib.request.urlopen(f"{self.url}/-/fail?{query}", timeout=10).close()

    def heal(self) -> None:
        """Fail no more."""
        urllib.request.urlopen(f"{self.url}/-/heal", timeout=10).close()


def use(server: Server, monkeypatch: Any, folder: Path) -> None:
    """Make this process talk to it, and to nothing else; caches and locks go to a folder."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in (server.environment | {"XDG_CACHE_HOME": str(folder / "cache")}).items():
        monkeypatch.setenv(name, value)


@contextmanager
def running() -> Iterator[Server]:
    """Start a server, make the bucket, stop the server at the end."""
    command = [sys.executable, str(Path(__file__).resolve())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().decode().strip()
            if not port:
                raise RuntimeError(f"the server ended with {process.wait()}; run {' '.join(command)} to see why")
            server = Server(f"http://127.0.0.1:{port}")
            _wait(server.url)
            server.files().create_dir(BUCKET)
            yield server
        finally:
            process.kill()


def _wait(url: str) -> None:
    deadline = time.monotonic() + START
    while True:
        try:
            with urllib.request.urlopen(f"{url}/moto-api/", timeout=START) as answer:
                assert answer.status == 200
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


class Watched:
    """A WSGI app that remembers its requests, refuses keys that it does not know (moto takes any), and fails when told."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self.seen: list[str] = []
        self.faults: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
        if path == "/-/requests":
            told, self.seen = self.seen, []
            return _say(environ, start, "200 OK", json.dumps(told).encode())
        if path == "/-/fail":
            self.faults.append({name: value[0] for name, value in parse_qs(query).items()})
            return _say(environ, start, "200 OK", b"")
        if path == "/-/heal":
            self.faults.clear()
            return _say(environ, start, "200 OK", b"")
        if path.startswith("/moto-api"):
            return self.app(environ, start)
        asked = f"{environ['REQUEST_METHOD']} {path}{'?' + query if query else ''}"
        self.seen.append(asked)
        if f"Credential={KEY}/" not in environ.get("HTTP_AUTHORIZATION", ""):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _say(environ, start, "403 Forbidden", REFUSED)
        fault = next((one for one in self.faults if re.search(one["match"], asked) and int(one["times"])), None)
        if fault is None:
            return self.app(environ, start)
        fault["times"] = int(fault["times"]) - 1
        if fault["done"] == "True":
            list(self.app(environ, lambda *_: None))
        else:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return _say(environ, start, "500 Internal Server Error", BROKEN)


def _say(environ: dict[str, Any], start: Callable[..., Any], status: str, body: bytes) -> list[bytes]:
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def serve() -> None:
    """Serve until the process that started this one goes; the port is told on stdout."""
    from moto.s3.responses import S3Response
    from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    lock = threading.RLock()

    def locked(real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(*args: Any, **more: Any) -> Any:
            with lock:
                return real(*args, **more)

        return call

    for name in ("put_object", "copy_object", "delete_object"):
        setattr(S3Response, name, locked(getattr(S3Response, name)))
    app = Watched(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    serve()
