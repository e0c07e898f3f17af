"""All of the kernel's voices about connections together: implements ``seams.flows.FlowSource``."""

import contextlib
import selectors

from stockade.adapters.netfilter.ended import Endings, account
from stockade.adapters.netfilter.nflog import PacketLog
from stockade.core.compile.nft.recording import ANSWERS, GROUP
from stockade.seams.flows import Heard

ANSWER, ANSWERS_ROOM = 4200, 1 << 20
"""Bytes kept of an answer: 4096 is the most that resolvers are asked for. And of those that wait to be read."""


class KernelFlows:
    """The flows of one network namespace (its file), or of the calling thread's. For one thread at a time."""

    def __init__(self, netns: str | None = None) -> None:
        """``OSError`` where the kernel cannot log, or another process reads the group already."""
        with contextlib.ExitStack() as undo:
            self._log = PacketLog(GROUP, netns)
            undo.callback(self._log.close)
            self._answers = PacketLog(ANSWERS, netns, ANSWER, ANSWERS_ROOM)
            undo.callback(self._answers.close)
            self._endings = Endings(netns)
            undo.callback(self._endings.close)
            self.unaccounted = account(netns)
            """Switches without which ended connections tell less."""
            self._selector = selectors.DefaultSelector()
            for each in (self._log, self._answers, self._endings):
                self._selector.register(each, selectors.EVENT_READ)
            undo.callback(self._selector.close)
            self._undo = undo.pop_all()

    def read(self, patience: float) -> Heard:
        """Return what has come, as soon as something has, or after ``patience`` seconds."""
        self._selector.select(patience)
        return Heard(self._log.read(), self._endings.read(), self._answers.packets())

    def losses(self) -> tuple[tuple[str, str, int], ...]:
        """Return what the kernel had to leave out: packets, and times that it had no room for ended connections."""
        return (
            ("nflog", "decisions", self._log.lost),
            ("nflog", "answers of resolvers", self._answers.lost),
            ("conntrack", "overruns", self._endings.overruns),
        )

    def close(self) -> None:
        """Hear no more."""
        self._undo.close()
