"""How long the gate's program itself takes: a small program in its place, which runs it and writes that down."""

from pathlib import Path

from bench.newborns import built
from stockade.cli.gate_files import COPIED
from stockade.testing.engine_host import EngineHost

SOURCE = Path(__file__).parent / "stopwatch.c"
NAME = "stockade-gate-timed"


class Stopwatch:
    """One for each engine's host; its program and its log are in the host's folder."""

    def __init__(self, host: EngineHost) -> None:
        self._log = host.root / "gate-times"
        self.program = built(SOURCE, host.root / NAME, f'-DREAL="{COPIED}"', f'-DLOG="{self._log}"')

    def take(self) -> list[float]:
        """Return how long each run took since the last time, in milliseconds."""
        found = self._log.read_text(encoding="ascii").split() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return [int(each) / 1e6 for each in found]
