"""A server made of the API's route table, and the command line led to nothing but it."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from route_table_server import CommandLine, Server
from starlette.applications import Starlette

from stockade.wire.routes import ROUTES


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the route table on a Unix socket, once for all tests of this worker."""
    it = Server(tmp_path_factory.mktemp("api") / "api.sock")
    app = Starlette(routes=[it.endpoint(route) for route in ROUTES if route.reply])
    web = uvicorn.Server(uvicorn.Config(app, uds=str(it.socket), log_level="critical", lifespan="off"))
    thread = threading.Thread(target=web.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not web.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield it
    it.forget()
    web.should_exit = True
    thread.join(20)


@pytest.fixture
def server(serving: Server, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, knowing no answers yet; the command line is led to it."""
    serving.forget()
    monkeypatch.setenv("STOCKADE_SOCKET", str(serving.socket))
    return serving


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """The command line, with settings that lead nowhere but into the test's folder."""
    for name in [name for name in os.environ if name.startswith("STOCKADE_")] + ["DOCKER_HOST", "NO_COLOR"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("STOCKADE_STATE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return CommandLine(capsys)
