"""The gate as a plugin of NRI, asked by a runtime that speaks the interface's own frames over a real socket."""

import contextlib
import socket
import struct
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gate_program import HANGS, PROGRAM, Ground, asked

from stockade.seams.gate import Knock

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="this machine has no C compiler: the gate was not built")

PLUGIN, RUNTIME = 1, 2
EVENTS = 0b1001
"""RUN_POD_SANDBOX and CREATE_CONTAINER."""


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out, number = out + bytes((number & 0x7F | 0x80,)), number >> 7
    return out + bytes((number,))


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def fields(message: bytes) -> dict[int, object]:
    """Read a message of numbers and bytes."""
    found: dict[int, object] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = number()
        if tag & 7 == 2:
            length = number()
            found[tag >> 3] = message[at : at + length]
            at += length
        else:
            found[tag >> 3] = number()
    return found


POD = (
    field(1, "pod-1")
    + field(2, "web")
    + field(
        8, field(5, field(1, "ipc") + field(2, "/ipc")) + field(5, field(1, "network") + field(2, "/run/netns/pod-1"))
    )
)
CONTAINER = field(1, "c0ffee") + field(2, "pod-1")


class Runtime:
    """A runtime's end of a plugin's socket."""

    def __init__(self, ground: Ground) -> None:
        self.ours, theirs = socket.socketpair()
        self.ours.settimeout(HANGS)
        environment = {"NRI_PLUGIN_NAME": "stockade", "NRI_PLUGIN_IDX": "10", "NRI_PLUGIN_SOCKET": str(theirs.fileno())}
        self.plugin = subprocess.Popen((PROGRAM,), env=environment, pass_fds=(theirs.fileno(),))
        theirs.close()
        self.stream = 1
        self.options = "\n".join(ground.options)

    def read(self) -> tuple[int, int, int, bytes]:
        """Return connection, stream, type and message of the next frame."""
        connection, size = struct.unpack(">II", self._exactly(8))
        frame = self._exactly(size)
        length, stream, kind, _ = struct.unpack(">IIBB", frame[:10])
        assert length == size - 10
        return connection, stream, kind, frame[10:]

    def send(self, connection: int, frame: bytes, cut: int = 1 << 20) -> None:
        for start in range(0, len(frame), cut):
            piece = frame[start : start + cut]
            self.ours.sendall(struct.pack(">II", connection, len(piece)) + piece)

    def ask(self, method: str, payload: bytes = b"", cut: int = 1 << 20) -> dict[int, object]:
        """Ask the plugin; return its response by field."""
        message = field(1, "nri.pkg.api.v1alpha1.Plugin") + field(2, method) + field(3, payload)
        self.stream += 2
        self.send(PLUGIN, struct.pack(">IIBB", len(message), self.stream, 1, 0) + message, cut)
        connection, stream, kind, answer = self.read()
        assert (connection, stream, kind) == (PLUGIN, self.stream, 2)
        return fields(answer)

    def begin(self) -> dict[int, object]:
        """Take its enrolment and configure it."""
        self.read()
        self.send(RUNTIME, struct.pack(">IIBB", 0, 1, 2, 0))
        return self.ask("Configure", field(1, self.options) + field(2, "containerd"))

    def _exactly(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            more = self.ours.recv(size - len(got))
            assert more, "the plugin has ended"
            got += more
        return got


@pytest.fixture
def ground(tmp_path):
    return Ground(tmp_path)


@contextlib.contextmanager
def running(ground: Ground) -> Iterator[Runtime]:
    runtime = Runtime(ground)
    try:
        yield runtime
    finally:
        runtime.ours.close()
        runtime.plugin.wait(HANGS)


def refused(answer: dict[int, object]) -> str:
    """Return why; empty where it may."""
    if 1 not in answer:
        return ""
    status = fields(answer[1])
    assert status[1] == 9, "FAILED_PRECONDITION"
    return status[2].decode()


def test_it_enrols_and_says_what_it_wants_to_hear_of(ground):
    with running(ground) as runtime:
        connection, stream, kind, message = runtime.read()
        request = fields(message)
        assert (connection, stream, kind) == (RUNTIME, 1, 1)
        assert (request[1], request[2]) == (b"nri.pkg.api.v1alpha1.Runtime", b"RegisterPlugin")
        assert fields(request[3]) == {1: b"stockade", 2: b"10"}
        runtime.send(RUNTIME, struct.pack(">IIBB", 0, 1, 2, 0))
        assert fields(runtime.ask("Configure", field(1, runtime.options))[2]) == {2: EVENTS}
        assert fields(runtime.ask("Synchronize", field(3, 1))[2]) == {2: 1}, "there is more to come"
        assert runtime.ask("Synchronize")[2] == b""
    assert runtime.plugin.returncode == 0, "it ends with its runtime"


ASKING = {
    "a pod": ("RunPodSandbox", field(1, POD), Knock("nri", "pod-1", "/run/netns/pod-1")),
    "a pod, as older runtimes say it": (
        "StateChange",
        field(1, 1) + field(2, POD),
        Knock("nri", "pod-1", "/run/netns/pod-1"),
    ),
    "a container": ("CreateContainer", field(1, POD) + field(2, CONTAINER), Knock("nri", "c0ffee", "")),
}


@pytest.mark.parametrize(("method", "payload", "knock"), ASKING.values(), ids=ASKING)
@pytest.mark.parametrize("reason", ["", "no room"])
def test_what_the_agent_says_is_what_the_runtime_hears(ground, method, payload, knock, reason):
    ground.hold()

    def work() -> str:
        with running(ground) as runtime:
            runtime.begin()
            return refused(runtime.ask(method, payload))

    told, knocks = asked(ground, reason, work)
    assert knocks == [knock]
    assert ("stockade: not started: no room" in told) is bool(reason)


@pytest.mark.long
def test_without_an_agent_it_goes_by_what_is_held_and_each_question_has_its_time(ground):
    ground.hold()
    with running(ground) as runtime, socket.socket(socket.AF_UNIX) as deaf:
        runtime.begin()
        for _ in range(2):
            assert "the agent does not run" in refused(runtime.ask("RunPodSandbox", field(1, POD)))
        deaf.bind(str(ground.run / "gate.sock"))
        deaf.listen(8)
        for _ in range(2):
            assert "did not answer in time" in refused(runtime.ask("RunPodSandbox", field(1, POD)))
    (ground.run / "births").unlink()
    (ground.state / "births").unlink()
    with running(ground) as runtime:
        runtime.begin()
        assert refused(runtime.ask("RunPodSandbox", field(1, POD))) == ""


@pytest.mark.parametrize("method", ["StopPodSandbox", "StateChange", "RemoveContainer", "Shutdown", "whatever comes"])
def test_what_is_no_birth_is_not_asked_about(ground, method):
    ground.hold()
    with running(ground) as runtime:
        runtime.begin()
        assert refused(runtime.ask(method, field(1, 2) + field(2, POD))) == ""


@pytest.mark.parametrize("cut", [1, 7, 11])
def test_frames_may_come_in_pieces(ground, cut):
    with running(ground) as runtime:
        runtime.begin()
        assert refused(runtime.ask("RunPodSandbox", field(1, POD), cut)) == ""


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200))
def test_no_message_makes_it_stumble(tmp_path_factory, payload):
    ground = Ground(tmp_path_factory.mktemp("any"))
    with running(ground) as runtime:
        runtime.begin()
        for method in ("Configure", "RunPodSandbox", "CreateContainer", "StateChange"):
            runtime.ask(method, payload)


def test_what_is_no_frame_ends_it(ground):
    with running(ground) as runtime:
        runtime.read()
        runtime.ours.sendall(b"\xff" * 64)
        assert runtime.plugin.wait(HANGS) == 1
