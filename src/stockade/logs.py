"""Structured logs: one JSON object a line, to stderr, UTC. Ids and numbers; never what a label, fact or file says."""

import contextlib
import io
import logging
import sys
from typing import Any, TextIO, cast

from stockade.memory import without

with without("rich"):  # it shows tracebacks in colours for whoever develops, and is a tenth of an agent's memory
    import structlog


class _WholeLines(io.TextIOBase):
    """Hands each line over in one write, whoever says it; a line that cannot be written is lost, not its speaker."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str, /) -> int:
        """Write a line with its end. Two writes could have another thread's or process's line between them."""
        with contextlib.suppress(OSError):
            self._stream.write(line)
            self._stream.flush()
        return len(line)


def log_of(part: str) -> Any:
    """Return the log of a part of this process."""
    return structlog.get_logger(part)


def log_to(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Send every log of this process to ``stream``."""
    lines = _WholeLines(stream)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", lines)),
        cache_logger_on_first_use=False,
    )
    foreign = logging.StreamHandler(lines)
    foreign.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.dict_tracebacks,
                structlog.processors.JSONRenderer(sort_keys=True),
            ]
        )
    )
    logging.basicConfig(handlers=[foreign], level=logging.WARNING, force=True)
