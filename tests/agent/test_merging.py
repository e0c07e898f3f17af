"""Two sources that see one workload merge into one, whatever came first."""

from itertools import permutations

import pytest
from msgspec.structs import replace

from stockade.agent.inventory import Inventory
from stockade.agent.merging import give_way, merge
from stockade.core.model.ids import WorkloadId
from stockade.core.model.inventory import Attachment, Endpoint, Sighting, WorkloadKind, WorkloadState
from stockade.seams.runtime import Gone, Listed, Lost, Seen

PLACE = Endpoint(Attachment.BRIDGED, ("172.17.0.2",), "veth1", "docker0", "02:42:ac:11:00:02", "h/docker0")
ELSEWHERE = replace(PLACE, port="veth2", addresses=("172.17.0.3",))


def seen(id_: str, *marks: str, **more: object) -> Seen:
    sighting = Sighting(WorkloadId(id_), id_, WorkloadKind.CONTAINER, **more)
    return Seen(sighting, 1.0, marks=marks)


def said(**sources: list[Seen]) -> dict[str, dict[WorkloadId, Seen]]:
    return {name: {each.sighting.id: each for each in told} for name, told in sources.items()}


BY_DOCKER = seen("docker:web", "container:w", "netns:5", endpoints=(PLACE,))
BY_CONTAINERD = seen("containerd:web", "container:w", "netns:5", endpoints=(PLACE,))
BY_NAMESPACES = seen("netns:5", "netns:5", endpoints=(PLACE,))


def test_the_source_that_knows_most_speaks_and_the_others_are_named():
    merged = merge(said(namespaces=[BY_NAMESPACES], containerd=[BY_CONTAINERD], docker=[BY_DOCKER]))
    assert merged == {"docker:web": replace(BY_DOCKER.sighting, sources=("docker", "containerd", "namespaces"))}


@pytest.mark.parametrize("mark", ["container:w", "netns:5"])
def test_one_mark_in_common_is_enough(mark):
    merged = merge(said(docker=[seen("docker:web", mark)], containerd=[seen("containerd:web", mark)]))
    assert list(merged) == ["docker:web"]


def test_a_port_of_the_host_is_a_mark():
    tap = seen("tap", endpoints=(PLACE,))
    assert list(merge(said(libvirt=[seen("vm", endpoints=(PLACE,))], namespaces=[tap]))) == ["vm"]


def test_marks_lead_from_one_to_the_next():
    merged = merge(
        said(docker=[seen("a", "container:w")], gate=[seen("b", "container:w", "netns:5")], namespaces=[BY_NAMESPACES])
    )
    assert merged["a"].sources == ("docker", "namespaces", "gate")
    assert len(merged) == 1


@pytest.mark.parametrize("ended", ["gate:a", "gate:z"])
def test_the_place_of_who_had_a_port_before_is_not_lent(ended):
    """A port's name is given again, and whoever had it last may not have been told gone yet."""
    before = seen(ended, "container:e", "netns:4", endpoints=(replace(PLACE, addresses=("172.17.0.9",)),))
    own = seen("gate:w", "container:w", "netns:5", endpoints=(PLACE,))
    created = seen("docker:web", "container:w", state=WorkloadState.CREATED)
    merged = merge(said(docker=[created], gate=[before, own]))
    assert merged["docker:web"].endpoints == (PLACE,)


def test_who_has_no_place_yet_is_lent_one():
    created = seen("docker:web", "container:w", state=WorkloadState.CREATED)
    merged = merge(said(docker=[created], gate=[seen("gate:w", "container:w", "netns:5", endpoints=(PLACE,))]))
    assert merged["docker:web"].endpoints == (PLACE,)
    assert merged["docker:web"].state is WorkloadState.RUNNING


def test_who_has_a_place_and_no_address_yet_is_lent_one_that_has():
    bare = replace(PLACE, addresses=())
    early = seen("containerd:web", "container:w", "netns:5", endpoints=(bare,))
    met = seen("gate:w", "container:w", "netns:5", endpoints=(PLACE,))
    merged = merge(said(containerd=[early], namespaces=[seen("netns:5", "netns:5", endpoints=(bare,))], gate=[met]))
    assert merged["containerd:web"].endpoints == (PLACE,)
    moved = replace(met, sighting=replace(met.sighting, endpoints=(ELSEWHERE,)))
    merged = merge(said(containerd=[BY_CONTAINERD], gate=[moved]))
    assert merged["containerd:web"].endpoints == (PLACE,)


def test_who_has_ended_and_who_shares_a_namespace_are_lent_none():
    stopped = seen("docker:web", "container:w", state=WorkloadState.STOPPED)
    guest = seen("docker:side", "container:s", owner=WorkloadId("docker:web"))
    gate = [seen(f"gate:{each}", f"container:{each}", endpoints=(PLACE,)) for each in "ws"]
    merged = merge(said(docker=[stopped, guest], gate=gate))
    assert merged["docker:web"].endpoints == () == merged["docker:side"].endpoints


def test_what_one_source_tells_apart_stays_apart():
    side = seen("docker:side", "container:s", owner=WorkloadId("docker:web"))
    theirs = seen("containerd:side", "container:s", "netns:5")
    merged = merge(said(docker=[BY_DOCKER, side], containerd=[BY_CONTAINERD, theirs], namespaces=[BY_NAMESPACES]))
    assert sorted(merged) == ["docker:side", "docker:web"]
    assert merged["docker:side"].sources == ("docker", "containerd")
    assert merged["docker:web"].sources == ("docker", "containerd", "namespaces")


def test_an_address_that_is_given_on_confuses_nobody():
    """The old one's engine hangs and still tells of it; its address is another namespace's now."""
    newcomer = seen("netns:6", "netns:6", endpoints=(replace(PLACE, port="veth9"),))
    merged = merge(said(docker=[BY_DOCKER], namespaces=[newcomer]))
    assert sorted(merged) == ["docker:web", "netns:6"]


def test_the_order_in_which_it_is_told_does_not_matter():
    words = [
        ("docker", Listed((BY_DOCKER,))),
        ("containerd", Listed((BY_CONTAINERD, seen("containerd:other", "container:o", "netns:8")))),
        ("namespaces", Listed((BY_NAMESPACES, seen("netns:8", "netns:8", endpoints=(ELSEWHERE,))))),
    ]
    outcomes = set()
    for order in permutations(words):
        inventory = Inventory()
        for source, word in order:
            inventory.hear(source, word)
        outcomes.add(inventory.sightings())
    (only,) = outcomes
    assert [each.id for each in only] == ["containerd:other", "docker:web"]


def test_it_stays_one_while_a_source_comes_and_goes():
    inventory = Inventory()
    inventory.hear("docker", Listed((BY_DOCKER,)))
    inventory.hear("namespaces", Listed((BY_NAMESPACES,)))
    before = inventory.sightings()
    inventory.hear("docker", Lost("it hangs"))
    assert inventory.sightings() == before
    inventory.hear("namespaces", Gone(WorkloadId("netns:5"), 2.0))
    assert [each.id for each in inventory.sightings()] == ["docker:web"]
    inventory.hear("docker", Gone(WorkloadId("docker:web"), 3.0))
    assert inventory.sightings() == ()


@pytest.mark.parametrize("kind", [WorkloadKind.CONTAINER, WorkloadKind.HOST])
def test_a_machine_s_claim_gives_way_to_whoever_has_the_address(kind):
    holder = replace(BY_DOCKER.sighting, kind=kind)
    claims = replace(ELSEWHERE, addresses=("172.17.0.2", "172.17.0.9"))
    machine = Sighting(WorkloadId("vm:h:a"), "a", WorkloadKind.VM, endpoints=(claims,))
    settled = give_way({holder.id: holder, machine.id: machine})
    assert settled[holder.id] == holder
    assert settled[machine.id].endpoints == (replace(claims, addresses=("172.17.0.9",)),)


def test_an_inventory_is_told_so():
    inventory = Inventory()
    claims = replace(ELSEWHERE, addresses=("172.17.0.2",))
    machine = Seen(Sighting(WorkloadId("vm:h:a"), "a", WorkloadKind.VM, endpoints=(claims,)), 1.0)
    for source, each in (("qemu", machine), ("docker", BY_DOCKER)):
        inventory.hear(source, Listed((each,)))
    found = {each.id: each.endpoints[0].addresses for each in inventory.sightings()}
    assert found == {"docker:web": ("172.17.0.2",), "vm:h:a": ()}
