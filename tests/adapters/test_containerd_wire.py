"""Protocol Buffers by hand, and what two containerds said while the captures were made (``captures/containerd``)."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.adapters.containerd import wire
from stockade.adapters.containerd.protobuf import Malformed, Message, encode
from stockade.adapters.containerd.wire import Key, Status

CAPTURES = Path(__file__).parent / "captures" / "containerd"
VERSIONS = sorted(path.stem for path in CAPTURES.glob("*.json"))


def load(version: str) -> dict[str, list[bytes]]:
    found = json.loads((CAPTURES / f"{version}.json").read_text())
    return {name: [base64.b64decode(each) for each in messages] for name, messages in found.items()}


@given(st.integers(0, 2**64 - 1), st.text(), st.binary(), st.dictionaries(st.text(), st.text()), st.lists(st.text()))
def test_what_is_written_is_read(number, text, data, pairs, texts):
    written = encode({1: number, 2: text, 3: data, 4: pairs, 2000: texts})
    found = Message(written)
    assert (found.number(1), found.text(2), found.data(3), found.texts(4)) == (number, text, data, pairs)
    assert [each.decode() for each in found.all_data(2000)] == texts
    assert encode({1: number, 2: text, 3: data, 4: pairs, 2000: texts}) == written


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_are_refused_and_nothing_else_happens(data):
    try:
        found = Message(data)
        found.number(1), found.text(2), found.messages(3), found.texts(4)
    except Malformed:
        pass


@pytest.mark.parametrize(
    "data", [b"\x08", b"\x08\xff", b"\x0a\x02x", b"\x0b", b"\x0d\0\0", b"\x08" + b"\xff" * 10 + b"\1", b"\x0a\x01\x08"]
)
def test_what_is_cut_short_or_has_groups_is_refused(data):
    with pytest.raises(Malformed):
        Message(data).message(1)


def test_fields_of_fixed_width_and_unknown_ones_are_stepped_over():
    assert Message(b"\x0d\1\0\0\0" + b"\x11\2\0\0\0\0\0\0\0" + encode({3: "x"})).text(3) == "x"
    with pytest.raises(Malformed):
        Message(encode({1: "text"})).number(1)
    with pytest.raises(Malformed):
        Message(encode({1: 5})).text(1)


def test_both_containerds_were_captured():
    assert VERSIONS == ["2.4.2", "debian"]


@pytest.mark.parametrize("version", VERSIONS)
def test_containers_and_tasks(version):
    said = load(version)
    assert wire.namespaces(said["namespaces"][0]) == ["default", "k8s.io"]
    (web,) = (wire.container("default", each) for each in said["containers default"])
    assert web.key == Key("default", "web")
    assert web.image == "localhost/stockade/busybox:1"
    assert web.label("tier") == "front"
    assert web.created % 1
    assert web.sandbox == ""
    pod, main = sorted((wire.container("k8s.io", each) for each in said["containers k8s.io"]), key=lambda c: c.created)
    assert pod.label("io.cri-containerd.kind") == "sandbox"
    assert pod.label("io.kubernetes.pod.name") == "shop"
    assert main.label("io.kubernetes.container.name") == "main"
    assert main.sandbox == pod.key.id
    tasks = wire.tasks("default", said["tasks default"][0])
    assert list(tasks) == [web.key]
    assert tasks[web.key].status is Status.PAUSED
    assert tasks[web.key].lives
    assert wire.task(said["task web"][0]) == tasks[web.key]


@pytest.mark.parametrize("version", VERSIONS)
def test_events(version):
    events = [wire.happened(each) for each in load(version)["events"]]
    default = [each for each in events if each.key == Key("default", "web")]
    topics = [each.topic for each in default if not each.process]
    assert topics == [f"/{each}" for each in ("containers/create", "tasks/create", "tasks/start", "tasks/paused")]
    (ended,) = (each for each in default if each.process)
    assert (ended.topic, ended.process) == ("/tasks/exit", "exec-1")
    assert [each.at for each in events] == sorted(each.at for each in events)
    assert {each.key.namespace for each in events} == {"default", "k8s.io"}
