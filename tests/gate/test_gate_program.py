"""The gate as runtimes call it: whatever becomes of the agent, it decides in time, and by what this host holds."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockade.adapters.gate import GateSocket
from stockade.core.model.ids import HostId
from stockade.core.model.policy import Births, Where
from stockade.seams.gate import Knock

PROGRAM = Path(str(files("stockade.gate"))) / "stockade-gate"
STATE = json.dumps({"ociVersion": "1.0.2", "id": "c0ffee", "status": "created", "pid": os.getpid(), "bundle": "/b"})
WHERE = Where("modes.yaml", 4, 1)
HANGS = 5
"""Seconds after which a test takes the gate for hung; it promises two."""

pytestmark = [
    pytest.mark.skipif(not PROGRAM.exists(), reason="this machine has no C compiler: the gate was not built"),
    pytest.mark.long,
]


class StillClock:
    def now(self) -> float:
        return 1_900_000_000.0

    def monotonic(self) -> float:
        return 0.0


class Ground:
    """A host's folders, and the gate called there."""

    def __init__(self, folder: Path) -> None:
        self.run, self.state = folder / "run", folder / "state"
        self.run.mkdir()
        self.state.mkdir()
        self.agent = GateSocket(HostId("h"), self.run, self.state, places=nowhere, stirs=nowhere, clock=StillClock())
        self.options = ("--socket", str(self.run / "gate.sock"), "--births", str(self.state / "births"))

    def hold(self, births: Births = Births.HOLD) -> None:
        self.agent.keep(births, WHERE)

    def hook(self, state: str = STATE) -> "subprocess.CompletedProcess[str]":
        return called("oci", *self.options, given=state)

    def cni(self, command: str, **more: object) -> "subprocess.CompletedProcess[str]":
        config = {
            "cniVersion": "1.0.0",
            "name": "n",
            "type": "stockade",
            "socket": self.options[1],
            "births": self.options[3],
        }
        words = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c0ffee",
            "CNI_NETNS": "/proc/self/ns/net",
            "CNI_IFNAME": "eth0",
        }
        return called(given=json.dumps({**config, **more}), environment=words)


def called(
    *words: str, given: str = "", environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        (PROGRAM, *words),
        input=given,
        env=environment or {},
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )


def nowhere(path: str) -> Never:
    raise OSError(path)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


@contextlib.contextmanager
def deaf(ground: Ground) -> Iterator[None]:
    """An agent that is stopped: the kernel takes connections for it, and nobody reads."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(ground.run / "gate.sock"))
        listening.listen(8)
        yield


def asked(ground: Ground, answer: str, call):
    """Call while an agent gives one answer; return what the call returned and what the agent was asked."""
    knocks: list[Knock] = []

    def answering(knock: Knock) -> str:
        knocks.append(knock)
        return answer

    async def attend() -> None:
        async for _ in ground.agent.attend(answering, lambda: False):
            pass

    async def whole():
        attending = asyncio.create_task(attend())
        while not (ground.run / "gate.sock").exists():
            await asyncio.sleep(0.001)
        done = await asyncio.to_thread(call)
        attending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await attending
        return done

    return asyncio.run(whole()), knocks


# OCI hook


@pytest.mark.parametrize("births", list(Births))
def test_whom_the_agent_agrees_to_is_born(ground, births):
    ground.hold(births)
    done, knocks = asked(ground, "", ground.hook)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert knocks == [Knock("oci", "c0ffee", f"/proc/{os.getpid()}/ns/net")]


def test_whom_the_agent_refuses_is_not_and_its_reason_is_given(ground):
    ground.hold()
    done, _ = asked(ground, "it cannot be written down (no room)", ground.hook)
    assert done.returncode == 1
    assert done.stderr == (
        "stockade: not started: it cannot be written down (no room), and this host holds unknown workloads "
        "(births: hold, modes.yaml:4). Try: stockade status\n"
    )


def test_without_an_agent_nobody_is_born_where_births_are_held(ground):
    ground.hold()
    done = ground.hook()
    assert done.returncode == 1
    assert done.stderr == (
        "stockade: not started: the agent does not run, and this host holds unknown workloads "
        "(births: hold, modes.yaml:4). Try: systemctl status stockade\n"
    )


def test_an_agent_that_stands_still_is_not_waited_for(ground):
    ground.hold()
    with deaf(ground):
        done = ground.hook()
    assert done.returncode == 1
    assert "the agent did not answer in time" in done.stderr


@pytest.mark.parametrize("agent", [contextlib.nullcontext, deaf])
def test_where_births_pass_nothing_keeps_anybody_from_it(ground, agent):
    ground.hold(Births.PASS)
    with agent(ground) if agent is deaf else agent():
        assert ground.hook().returncode == 0
        assert ground.hook("no json").returncode == 0


def test_where_nothing_was_ever_held_it_passes(ground):
    assert ground.hook().returncode == 0


def test_what_is_held_is_known_after_a_boot(ground):
    ground.hold()
    (ground.run / "births").unlink()
    assert ground.hook().returncode == 1


def test_what_cannot_be_read_is_held(ground):
    ground.hold()
    for folder in (ground.run, ground.state):
        (folder / "births").write_text("pa")
    assert ground.hook().returncode == 1


def test_what_is_held_can_be_written_where_there_is_no_room_left(ground):
    """Its size never changes, so that it needs no room."""
    for births in (*Births, *Births):
        ground.hold(births)
        assert {(folder / "births").stat().st_size for folder in (ground.run, ground.state)} == {512}
    assert stat.S_IMODE((ground.state / "births").stat().st_mode) == 0o600


def test_a_runtime_that_says_nothing_is_not_waited_for_either(ground):
    ground.hold()
    with subprocess.Popen((PROGRAM, "oci", *ground.options), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as silent:
        assert silent.wait(HANGS) == 1


def test_a_name_that_would_forge_a_question_is_refused(ground):
    ground.hold()
    done, knocks = asked(ground, "", lambda: ground.hook('{"id": "a\tb", "pid": 1}'))
    assert (done.returncode, knocks) == (1, [])
    assert "control characters" in done.stderr


def test_only_root_may_ask(ground):
    def look():
        return stat.S_IMODE((ground.run / "gate.sock").stat().st_mode)

    assert asked(ground, "", look)[0] == 0o600


# CNI plugin

BEFORE = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01"}],
    "ips": [{"address": "192.0.2.7/24"}],
}


def test_add_hands_on_what_came_before_it(ground):
    ground.hold()
    done, knocks = asked(ground, "", lambda: ground.cni("ADD", prevResult=BEFORE))
    assert done.returncode == 0
    assert json.loads(done.stdout) == BEFORE
    assert knocks == [Knock("cni", "c0ffee", "/proc/self/ns/net")]


@pytest.mark.parametrize(("answer", "code"), [("no room", 101), (None, 11)])
def test_add_refuses_in_the_words_of_the_specification(ground, answer, code):
    ground.hold()

    def call():
        return ground.cni("ADD", prevResult=BEFORE)

    done = asked(ground, answer, call)[0] if answer else call()
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert (told["cniVersion"], told["code"]) == ("1.0.0", code)
    assert told["msg"].startswith("stockade: not started: ")


def test_add_alone_in_a_list_is_an_error(ground):
    done = ground.cni("ADD")
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 7)


def test_check_asks_and_says_nothing(ground):
    ground.hold()
    done, knocks = asked(ground, "", lambda: ground.cni("CHECK", prevResult=BEFORE))
    assert (done.returncode, done.stdout) == (0, "")
    assert [each.by for each in knocks] == ["cni-check"]
    assert ground.cni("CHECK", prevResult=BEFORE).returncode == 1


@pytest.mark.parametrize("command", ["DEL", "GC"])
def test_an_end_is_never_held_up(ground, command):
    ground.hold()
    done = ground.cni(command)
    assert (done.returncode, done.stdout) == (0, "")


def test_status_says_whether_an_add_would_be_refused(ground):
    ground.hold()
    assert asked(ground, "", lambda: ground.cni("STATUS"))[0].returncode == 0
    done = ground.cni("STATUS")
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 50)


def test_version_names_those_it_speaks(ground):
    told = json.loads(ground.cni("VERSION").stdout)
    assert told["cniVersion"] == "1.1.0"
    assert {"0.4.0", "1.0.0", "1.1.0"} <= set(told["supportedVersions"])


# OCI runtime

CONFIGS = {
    "no hooks": {"ociVersion": "1.0.2", "process": {"args": ["{", "}", '"']}},
    "empty": {},
    "null hooks": {"hooks": None, "root": {}},
    "other hooks": {"hooks": {"prestart": [{"path": "/x"}]}, "root": {"path": "rootfs"}},
    "no others": {"hooks": {}},
    "null stage": {"hooks": {"createRuntime": None}},
    "empty stage": {"hooks": {"createRuntime": []}},
    "same stage": {"hooks": {"poststop": [], "createRuntime": [{"path": "/y", "args": ["y"]}]}},
}


def runtime(ground: Ground, bundle: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Call with ``echo`` for a runtime, which tells what it was called with."""
    log = str(bundle / "log.json")
    spoken = words or ("create", "--bundle", str(bundle), "c0ffee")
    return called(
        "runtime", *ground.options, "--", "/bin/echo", "--root", "/r", "--log", log, "--log-format", "json", *spoken
    )


def bundled(tmp_path: Path, text: str) -> Path:
    bundle = tmp_path / "bundle"
    bundle.mkdir(exist_ok=True)
    (bundle / "config.json").write_text(text)
    return bundle


def hook_of(ground: Ground) -> dict[str, object]:
    return {"path": str(PROGRAM), "args": ["stockade-gate", "oci", *ground.options], "timeout": 2}


def with_hook(config: dict, hook: dict) -> dict:
    hooks = config.get("hooks") or {}
    return {**config, "hooks": {**hooks, "createRuntime": [hook, *(hooks.get("createRuntime") or [])]}}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_hook_is_put_first_and_all_else_stays(ground, tmp_path, config, indent):
    bundle = bundled(tmp_path, json.dumps(config, indent=indent))
    done = runtime(ground, bundle)
    assert done.stdout.split()[-4:] == ["create", "--bundle", str(bundle), "c0ffee"]
    assert json.loads((bundle / "config.json").read_text()) == with_hook(config, hook_of(ground))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(config=st.dictionaries(st.text(max_size=8), JSON, max_size=6), ascii_only=st.booleans())
def test_any_configuration_is_left_as_it_was_but_for_the_hook(tmp_path_factory, config, ascii_only):
    config.pop("hooks", None)
    ground = Ground(tmp_path_factory.mktemp("any"))
    bundle = bundled(ground.run, json.dumps(config, ensure_ascii=ascii_only))
    runtime(ground, bundle)
    assert json.loads((bundle / "config.json").read_text()) == with_hook(config, hook_of(ground))


@pytest.mark.parametrize(
    "words", [("delete", "c0ffee"), ("--version",), ("exec", "--bundle", "nowhere", "c0ffee", "create")]
)
def test_what_starts_nothing_is_only_handed_on(ground, tmp_path, words):
    bundle = bundled(tmp_path, "{}")
    done = runtime(ground, bundle, *words)
    assert done.returncode == 0
    assert (bundle / "config.json").read_text() == "{}"


@pytest.mark.parametrize("text", ["", "no json", '{"hooks": 5}', '{"a": [1, 2}', '{"hooks": {"createRuntime": "x"}}'])
def test_a_bundle_that_takes_no_hook_is_not_started_where_births_are_held(ground, tmp_path, text):
    ground.hold()
    bundle = bundled(tmp_path, text)
    done = runtime(ground, bundle)
    assert (done.returncode, done.stdout) == (1, "")
    assert "stockade: not started" in done.stderr
    assert "stockade: not started" in json.loads((bundle / "log.json").read_text())["msg"]
    assert (bundle / "config.json").read_text() == text


def test_where_births_pass_it_is_the_runtimes_own_matter(ground, tmp_path):
    ground.hold(Births.PASS)
    assert runtime(ground, bundled(tmp_path, "no json")).returncode == 0


def test_the_configuration_keeps_its_mode(ground, tmp_path):
    bundle = bundled(tmp_path, "{}")
    (bundle / "config.json").chmod(0o640)
    runtime(ground, bundle)
    assert stat.S_IMODE((bundle / "config.json").stat().st_mode) == 0o640
    assert sorted(each.name for each in bundle.iterdir()) == ["config.json"]


def test_a_runtime_that_is_not_there_is_named(ground, tmp_path):
    bundle = bundled(tmp_path, "{}")
    done = called(
        "runtime",
        *ground.options,
        "--",
        "/nowhere/runc",
        "--log",
        str(bundle / "log"),
        "create",
        "--bundle",
        str(bundle),
    )
    assert done.returncode == 127
    assert "/nowhere/runc cannot be run: No such file or directory" in done.stderr


def test_called_by_hand_it_says_what_it_is():
    done = called()
    assert done.returncode == 2
    assert "stockade gate install" in done.stderr


def test_an_agent_that_ends_while_it_is_asked(ground):
    ground.hold()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(ground.run / "gate.sock"))
        listening.listen(8)
        with subprocess.Popen(
            (PROGRAM, "oci", *ground.options), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as asking:
            asking.stdin.write(STATE)
            asking.stdin.close()
            listening.accept()[0].close()
            assert asking.wait(HANGS) == 1
            assert "the agent ended while it was asked" in asking.stderr.read()


def test_a_gate_that_is_killed_is_a_refusal(ground):
    with deaf(ground), subprocess.Popen((PROGRAM, "oci", *ground.options), stdin=subprocess.PIPE) as asking:
        asking.send_signal(signal.SIGKILL)
        assert asking.wait(HANGS) != 0
