"""From what is known of containers to whose network namespace is whose: values in, values out."""

import itertools
import random

import pytest

from stockade.adapters.containerd.sight import Known, Ledger, Network, Site, name_of, state_of
from stockade.adapters.containerd.wire import Container, Key, Status, Task
from stockade.core.model.ids import HostId, WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, WorkloadState
from stockade.seams.places import Place

SITE = Site(HostId("h"), "h", WorkloadId("host:h"))
PLACE = Place("netns:9", (Endpoint(Attachment.BRIDGED, ("10.0.0.9",), "veth9", "cni0", "02:00:00:00:00:09"),))
CREATED, RUNNING, STOPPED = WorkloadState.CREATED, WorkloadState.RUNNING, WorkloadState.STOPPED


def known(name: str, created: float, network: Network | None = None, sandbox: str = "", **labels: str) -> Known:
    container = Container(Key("default", name), created, labels=tuple(sorted(labels.items())), sandbox=sandbox)
    return Known(container, RUNNING if network else STOPPED, created, 7 if network else 0, network)


def pod(name: str, created: float, network: Network | None = None) -> Known:
    kind = (("io.cri-containerd.kind", "sandbox"),)
    return Known(Container(Key("default", name), created, labels=kind), RUNNING, created, 7, network)


def owners(*all_known: Known) -> dict[str, str | None]:
    ledger = Ledger(SITE)
    for each in all_known:
        ledger.put(each)
    return {key.id: ledger.seen(key).sighting.owner for key in ledger}


OWN = Network(5, place=PLACE)


def test_the_first_owns_whatever_the_order_in_which_they_were_met():
    three = known("c", 1.0, OWN), known("b", 2.0, OWN), known("a", 3.0, OWN)
    for order in itertools.permutations(three):
        assert owners(*order) == {"c": None, "b": "containerd:h:default/c", "a": "containerd:h:default/c"}
    assert owners(known("b", 1.0, OWN), known("a", 1.0, OWN))["a"] is None, "at the same moment the ids decide"


def test_a_pods_sandbox_owns_even_where_it_is_younger():
    assert owners(known("old", 1.0, OWN), pod("box", 2.0, OWN)) == {"box": None, "old": "containerd:h:default/box"}


def test_the_hosts_namespace_is_the_hosts_whoever_is_in_it():
    on_host = Network(1, is_host=True)
    found = owners(pod("box", 1.0, on_host), known("in", 2.0, on_host), known("not-yet", 3.0, sandbox="box"))
    assert found == {"box": "host:h", "in": "host:h", "not-yet": "host:h"}


def test_before_it_has_a_process_its_sandbox_is_believed():
    assert owners(pod("box", 1.0, OWN), known("new", 2.0, sandbox="box"))["new"] == "containerd:h:default/box"
    assert owners(known("new", 2.0, sandbox="gone"))["new"] is None
    assert owners(known("odd", 2.0, sandbox="odd"))["odd"] is None
    assert (
        owners(known("one", 1.0, sandbox="two"), known("two", 1.0, sandbox="one"))["one"] == "containerd:h:default/two"
    )


def test_whose_sighting_changes_is_said():
    ledger = Ledger(SITE)
    first, second = known("first", 1.0, OWN), known("second", 2.0, OWN)
    assert ledger.put(second) == {second.container.key}
    assert ledger.put(first) == {first.container.key, second.container.key}
    assert ledger.drop(first.container.key) == {second.container.key}
    seen = ledger.seen(second.container.key)
    assert seen.sighting.owner is None
    assert seen.sighting.endpoints == PLACE.endpoints
    assert seen.marks == ("container:second", "netns:9")
    assert ledger.put(known("second", 2.0)) == {second.container.key}
    assert ledger.seen(second.container.key).marks == ("container:second",)
    assert ledger.drop(Key("default", "never")) == set()


def test_who_waits_in_a_pod_is_the_hosts_once_its_sandbox_turns_out_to_be():
    ledger = Ledger(SITE)
    ledger.put(pod("box", 1.0))
    waiting = known("waiting", 2.0, sandbox="box")
    ledger.put(waiting)
    assert ledger.seen(waiting.container.key).sighting.owner == "containerd:h:default/box"
    assert waiting.container.key in ledger.put(pod("box", 1.0, Network(1, is_host=True)))
    assert ledger.seen(waiting.container.key).sighting.owner == "host:h"


@pytest.mark.parametrize("seed", range(20))
def test_whoever_is_not_said_to_change_does_not(seed: int):
    dice, ledger = random.Random(seed), Ledger(SITE)
    networks = [None, OWN, Network(6, place=PLACE), Network(1, is_host=True)]
    names = ["box", "cage", "a", "b", "c"]
    for _ in range(200):
        before = {key: ledger.seen(key) for key in ledger}
        name = dice.choice(names)
        if dice.random() < 0.2:
            touched = ledger.drop(Key("default", name))
        elif name in ("box", "cage"):
            touched = ledger.put(pod(name, 1.0, dice.choice(networks)))
        else:
            touched = ledger.put(known(name, 2.0, dice.choice(networks), sandbox=dice.choice(["", "box", "cage"])))
        assert touched <= set(ledger)
        assert {key: ledger.seen(key) for key in before if key in ledger and key not in touched} == {
            key: seen for key, seen in before.items() if key in ledger and key not in touched
        }
        assert set(ledger) - before.keys() <= touched


def test_what_has_no_place_yet():
    ledger = Ledger(SITE)
    bare = Network(6, place=Place("netns:6"))
    tentative = Network(7, place=Place("netns:7", (Endpoint(Attachment.BRIDGED, port="veth7"),)))
    for each in (
        known("placed", 1.0, OWN),
        known("guest", 2.0, OWN),
        known("bare", 1.0, bare),
        known("tentative", 1.0, tentative),
        known("ended", 1.0),
        known("onhost", 1.0, Network(1, is_host=True)),
    ):
        ledger.put(each)
    assert {key.id for key in ledger if ledger.is_placeless(key)} == {"bare", "tentative"}


def test_states():
    assert state_of(None, lived=False) is CREATED
    assert state_of(None, lived=True) is STOPPED
    assert {each: state_of(Task(7, each), lived=False) for each in Status} == {
        Status.UNKNOWN: RUNNING,
        Status.CREATED: CREATED,
        Status.RUNNING: RUNNING,
        Status.STOPPED: STOPPED,
        Status.PAUSED: RUNNING,
        Status.PAUSING: RUNNING,
    }


def test_names():
    assert name_of(Container(Key("default", "id"), 0.0)) == "id"
    assert name_of(Container(Key("default", "id"), 0.0, labels=(("nerdctl/name", "web"),))) == "web"
    sandbox = ("io.cri-containerd.kind", "sandbox")
    assert name_of(Container(Key("k8s.io", "id"), 0.0, labels=(sandbox, ("io.kubernetes.pod.name", "shop")))) == "shop"
    assert name_of(Container(Key("k8s.io", "id"), 0.0, labels=(sandbox,))) == "id"
