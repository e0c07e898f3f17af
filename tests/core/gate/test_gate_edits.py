"""The gate goes into a runtime's configuration and comes out of it, and all else stays as it was."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.core.gate import TARGETS, Call, CannotEdit
from stockade.core.gate.containerd import DEFAULT_SPEC, needs
from stockade.core.gate.docker import BEHIND
from stockade.core.gate.nri import OPTIONS

CALL = Call("/usr/lib/stockade/stockade-gate", "/run/stockade/gate.sock", "/var/lib/stockade/births")
SPEC = json.dumps({"ociVersion": "1.1.0", "process": {"args": ["sh"]}, "linux": {}})
DAEMON, CONTAINERD = "/etc/docker/daemon.json", "/etc/containerd/config.toml"

COMMENTED = """\
version = 3
# what our people decided
[plugins]
  [plugins.'io.containerd.cri.v1.runtime']
    max_container_log_line_size = 16384 # bytes
    [plugins.'io.containerd.cri.v1.runtime'.containerd]
      default_runtime_name = "runc"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gpu]
        runtime_type = "io.containerd.runc.v2"
        base_runtime_spec = "/etc/containerd/gpu.json"
"""
OLDER = '\nversion = 2\n\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "pause"\n'
WHERE = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}

LISTS = {
    "/etc/cni/net.d/10-a.conflist": json.dumps(
        {"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "bridge"}]}, indent=4
    ),
    "/etc/cni/net.d/20-b.conflist": json.dumps(
        {"cniVersion": "0.4.0", "name": "b", "plugins": [{"type": "ptp"}, {"type": "portmap"}]}
    ),
}

CASES = {
    "docker": [
        {DAEMON: None},
        {DAEMON: "{}"},
        {DAEMON: json.dumps({"log-driver": "journald", "runtimes": {"crun": {"path": "/usr/bin/crun"}}}, indent=4)},
        {
            DAEMON: json.dumps(
                {"default-runtime": "gpu", "runtimes": {"gpu": {"path": "/opt/gpu", "runtimeArgs": ["-x"]}}}
            )
        },
    ],
    "podman": [{"/etc/containers/oci/hooks.d/stockade.json": None}],
    "cri-o": [{"/usr/share/containers/oci/hooks.d/stockade.json": None}],
    "containerd": [
        {CONTAINERD: None, DEFAULT_SPEC: SPEC},
        {CONTAINERD: COMMENTED, DEFAULT_SPEC: SPEC, "/etc/containerd/gpu.json": SPEC},
        {CONTAINERD: OLDER, DEFAULT_SPEC: SPEC},
    ],
    "cni": [LISTS],
    "nri": [{CONTAINERD: text, OPTIONS: None} for text in (None, COMMENTED, OLDER)],
}
EVERY = [
    pytest.param(name, files, id=f"{name} {at}") for name, cases in CASES.items() for at, files in enumerate(cases)
]


def meaning(path: str, text: str | None) -> object:
    """What a program reads in a file: nothing in a missing one, nor in one that only names its format."""
    if text is None:
        return {}
    read = tomllib.loads(text) if path.endswith(".toml") else json.loads(text)
    return {} if read == {"version": 2} else read


def put(name: str, files: dict[str, str | None]) -> dict[str, str | None]:
    return {**files, **TARGETS[name].put(files, CALL)}


def taken(name: str, files: dict[str, str | None]) -> dict[str, str | None]:
    return {**files, **TARGETS[name].take(files)}


@pytest.mark.parametrize(("name", "files"), EVERY)
def test_it_is_put_in_once(name, files):
    there = put(name, files)
    assert there != files
    assert TARGETS[name].put(there, CALL) == {}


@pytest.mark.parametrize(("name", "files"), EVERY)
def test_taken_out_again_everything_means_what_it_meant(name, files):
    back = taken(name, put(name, files))
    for path in {*files, *back} - {DEFAULT_SPEC}:
        assert meaning(path, back.get(path)) == meaning(path, files.get(path)), path
    assert TARGETS[name].take(back) == {}


@pytest.mark.parametrize(("name", "files"), EVERY)
def test_where_it_is_not_nothing_is_taken_out(name, files):
    assert TARGETS[name].take(files) == {}


def test_docker_calls_the_runtime_that_was_through_the_gate():
    ((before,),) = [CASES["docker"][3].values()]
    config = json.loads(put("docker", {DAEMON: before})[DAEMON])
    assert config["default-runtime"] == "stockade"
    assert config["runtimes"]["gpu"] == {"path": "/opt/gpu", "runtimeArgs": ["-x"]}
    ours = config["runtimes"]["stockade"]
    assert ours["path"] == CALL.program
    assert ours["runtimeArgs"][-3:] == ["--", "/opt/gpu", "-x"]


@pytest.mark.parametrize("before", [*CASES["docker"][1].values(), *CASES["docker"][3].values()])
def test_containers_that_were_created_behind_it_can_still_be_started(before):
    there = put("docker", {DAEMON: before})
    left = json.loads(TARGETS["docker"].take({**there, BEHIND: "/web"})[DAEMON])
    was = json.loads(before).get("default-runtime", "runc")
    assert left["default-runtime"] == was
    real = json.loads(before).get("runtimes", {}).get(was, {"path": "runc"})
    words = [real["path"], *real.get("runtimeArgs", [])]
    assert left["runtimes"]["stockade"] == {"path": "/usr/bin/env", "runtimeArgs": words}
    text = json.dumps(left)
    assert TARGETS["docker"].take({DAEMON: text, BEHIND: "/web"}) == {}, "the gate is out"
    assert meaning(DAEMON, TARGETS["docker"].take({DAEMON: text})[DAEMON]) == meaning(DAEMON, before)
    again = json.loads(put("docker", {DAEMON: text})[DAEMON])
    assert again["runtimes"] == json.loads(there[DAEMON])["runtimes"]


def test_docker_s_own_shims_cannot_be_given_a_hook():
    kata = {"default-runtime": "kata", "runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2"}}}
    with pytest.raises(CannotEdit, match='the default runtime "kata"'):
        put("docker", {DAEMON: json.dumps(kata)})


@pytest.mark.parametrize("version", [2, 3])
def test_every_cri_runtime_has_the_hook_and_what_its_own_specification_says(version):
    text = COMMENTED if version == 3 else OLDER
    own = json.dumps({**json.loads(SPEC), "hooks": {"createRuntime": [{"path": "/gpu"}], "poststop": []}})
    there = put("containerd", {CONTAINERD: text, DEFAULT_SPEC: SPEC, "/etc/containerd/gpu.json": own})
    runtimes = tomllib.loads(there[CONTAINERD])["plugins"][WHERE[version]]["containerd"]["runtimes"]
    assert sorted(runtimes) == (["gpu", "runc"] if version == 3 else ["runc"])
    for name, runtime in runtimes.items():
        assert runtime["runtime_type"] == "io.containerd.runc.v2"
        spec = json.loads(there[runtime["base_runtime_spec"]])
        assert spec["process"] == {"args": ["sh"]}
        assert spec["hooks"]["createRuntime"][0] == CALL.hook()
        assert len(spec["hooks"]["createRuntime"]) == (2 if name == "gpu" else 1)


def test_containerd_s_file_keeps_its_comments_and_order():
    kept = put("containerd", CASES["containerd"][1])[CONTAINERD].splitlines()
    lines = [line for line in COMMENTED.splitlines() if "gpu.json" not in line]
    assert [line for line in kept if line in lines] == lines


def test_containerd_is_asked_for_the_specifications_in_use():
    assert needs({CONTAINERD: COMMENTED}) == (DEFAULT_SPEC, "/etc/containerd/gpu.json")


def test_a_specification_that_cannot_be_read_is_named():
    with pytest.raises(CannotEdit, match=r"gpu\.json cannot be read"):
        put("containerd", {CONTAINERD: COMMENTED, DEFAULT_SPEC: SPEC})


def test_a_plugin_is_the_last_of_every_list():
    there = put("cni", LISTS)
    for path, text in LISTS.items():
        before, after = json.loads(text), json.loads(there[path])
        assert after["plugins"] == [
            *before["plugins"],
            {"type": "stockade", "socket": CALL.socket, "births": CALL.births},
        ]
        assert "\n    " in there[path] or "\n" not in text


def test_without_a_network_there_is_nothing_to_put_it_into():
    with pytest.raises(CannotEdit, match="no CNI network list"):
        put("cni", {})


def test_who_validates_already_requires_one_more():
    header = "version = 3\n[plugins.'io.containerd.nri.v1.nri'.default_validator]\n"
    text = header + 'enable = true\nrequired_plugins = ["theirs"]\n'
    there = put("nri", {CONTAINERD: text})
    validator = tomllib.loads(there[CONTAINERD])["plugins"]["io.containerd.nri.v1.nri"]["default_validator"]
    assert validator == {"enable": True, "required_plugins": ["theirs", "stockade"]}
    assert tomllib.loads(taken("nri", there)[CONTAINERD]) == tomllib.loads(text)


def test_a_plugin_interface_that_is_off_is_switched_on():
    text = 'version = 3\n[plugins."io.containerd.nri.v1.nri"]\ndisable = true\n'
    there = put("nri", {CONTAINERD: text, OPTIONS: None})
    assert tomllib.loads(there[CONTAINERD])["plugins"]["io.containerd.nri.v1.nri"]["disable"] is False
    assert there[OPTIONS] == f"--socket\n{CALL.socket}\n--births\n{CALL.births}\n"


@pytest.mark.parametrize("name", ["docker", "containerd", "nri"])
@pytest.mark.parametrize("text", ["{", "[1]", 'a = "\n'])
def test_what_cannot_be_read_is_left_alone_and_named(name, text):
    path = TARGETS[name].patterns[0]
    with pytest.raises(CannotEdit, match=path):
        put(name, {path: text, **({DEFAULT_SPEC: SPEC} if name == "containerd" else {})})


def test_an_older_format_is_not_guessed_at():
    with pytest.raises(CannotEdit, match="version 1"):
        put("containerd", {CONTAINERD: "[plugins]\n", DEFAULT_SPEC: SPEC})


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda key: key not in ("runtimes", "default-runtime")),
        st.none() | st.booleans() | st.text() | st.lists(st.integers()),
    )
)
def test_docker_keeps_whatever_else_there_is(config):
    before = json.dumps(config)
    there = json.loads(put("docker", {DAEMON: before})[DAEMON])
    assert {key: there[key] for key in config} == config
    assert meaning(DAEMON, taken("docker", put("docker", {DAEMON: before}))[DAEMON]) == config
