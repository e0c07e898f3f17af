"""Logs are one JSON object a line, and hold no content of labels, facts or files."""

import errno
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from controlled import ADA, FILES, HOST, applied, container, host_seen, opened, report, run

from stockade.controller.labels import set_labels
from stockade.core.model.event import WorkloadSeen
from stockade.core.model.inventory import Facts
from stockade.logs import log_to
from stockade.wire.api import File

SECRET = "hunter2"


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = before


@pytest.fixture
def stream(restored: None) -> io.StringIO:
    log_to(captured := io.StringIO())
    return captured


def test_every_line_is_one_object(stream: io.StringIO, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await report(installation.controller, *host_seen())
            await applied(installation)

    run(scenario())
    logging.getLogger("somebody.else").warning("from %s\nover two lines", "elsewhere")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [each["event"] for each in lines] == ["assigned", "apply", "assigned", "from elsewhere\nover two lines"]
    assert all(each["level"] in ("info", "warning") and each["timestamp"].endswith("Z") for each in lines)
    assert (lines[1]["by"], lines[1]["version"]) == ("ada", 1)


class Parts(io.StringIO):
    """Keeps what it is given part by part, or has no room."""

    def __init__(self, full: bool = False) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._full = full

    def write(self, text: str, /) -> int:
        if self._full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.parts.append(text)
        return len(text)


@pytest.mark.usefixtures("restored")
def test_a_line_is_written_at_once_so_that_no_other_comes_into_it() -> None:
    log_to(parts := Parts())
    structlog.get_logger("test").info("ours", n=1)
    logging.getLogger("somebody.else").warning("theirs")
    assert [json.loads(part)["event"] for part in parts.parts] == ["ours", "theirs"]
    assert all(part.endswith("}\n") for part in parts.parts)


@pytest.mark.usefixtures("restored")
def test_a_log_without_room_fails_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    log_to(Parts(full=True))
    structlog.get_logger("test").info("ours")
    logging.getLogger("somebody.else").warning("theirs")
    assert "Traceback" not in capfd.readouterr().err


def test_an_error_is_an_object_too(stream: io.StringIO) -> None:
    try:
        raise ValueError("no")
    except ValueError:
        structlog.get_logger("test").exception("unforeseen")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["exception"][0]["exc_type"] == "ValueError"


def test_no_content_is_logged(stream: io.StringIO, tmp_path: Path) -> None:
    import msgspec

    seen = container("web-1", 11, "web")
    facts = Facts(runtime="docker", labels=(("PASSWORD", SECRET), *seen.sighting.facts.labels))
    leaky = WorkloadSeen(msgspec.structs.replace(seen.sighting, facts=facts))

    async def scenario() -> None:
        async with opened(tmp_path) as installation:
            await report(installation.controller, *host_seen(), leaky)
            await set_labels(installation.controller, "web-1", {"token": SECRET}, ADA)
            await applied(
                installation, (*FILES, File("secret.yaml", f"# {SECRET}\n{FILES[0].text}".replace("shop", "x")))
            )
            assert SECRET in str(installation.controller.snapshot)
            assert HOST in installation.controller.roster.wanted

    run(scenario())
    assert "assigned" in stream.getvalue()
    assert SECRET not in stream.getvalue()
