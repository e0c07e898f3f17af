"""Nothing reaches nft's text that could mean something else there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.core.compile.nft.ruleset import ElementSet
from stockade.core.reconcile import Unspeakable, text
from stockade.core.reconcile.operations import AddChain, AddElements, AddSet, DeleteElements, FillChain


@pytest.mark.parametrize(
    "element",
    [
        "10.0.0.1",
        "10.0.0.0/8",
        "10.0.0.1-10.0.0.9",
        "::1",
        "::/0",
        "fe80::/10",
        "2001:db8::1-2001:db8::9",
        "::1-::2",
        "10.0.0.1 . 22",
        "::1 . 22 : goto pub_1",
        '"eth0.1" . 02:42:ac:11:00:02 . 10.0.0.1',
        '"br-0123456789ab" . 02:42:ac:11:00:02 . 0xfe80000000000000000000000000000a',
        "10.0.0.1 : goto mc0123",
        "10.0.0.1 timeout 30s",
        '"veth@if2:x"',
    ],
)
def test_elements_of_ours_can_be_spelled(element: str) -> None:
    assert element in text((AddElements("inet", "s", (element,)),))


@pytest.mark.parametrize(
    "element",
    [
        '"a" }; delete table inet stockade; "',
        '"a"\nflush ruleset',
        '"a","b"',
        '"eth*"',
        '"a}"',
        "10.0.0.1, 0.0.0.0/0",
        "10.0.0.1 : goto x; drop",
        "@other",
        "$variable",
        "host.example",
        "10.0.0.1 . ssh",
        "",
        '"a\x00"',
        '"sixteen-letters-1"',
        '"a\\"',
    ],
)
def test_what_would_mean_something_else_is_refused(element: str) -> None:
    for operation in (AddElements("inet", "s", (element,)), DeleteElements("inet", "s", (element,))):
        if operation.elements == ("10.0.0.1 : goto x; drop",) and isinstance(operation, DeleteElements):
            continue  # only the key is sent
        with pytest.raises(Unspeakable) as refused:
            text((operation,))
        assert refused.value.kept
        assert refused.value.remedy


@given(st.text(max_size=20))
def test_a_container_cannot_name_its_way_into_a_command(name: str) -> None:
    """Either it is refused, or it stays one quoted word on one line."""
    try:
        written = text((AddElements("inet", "ports", (f'"{name}"',)),))
    except Unspeakable:
        return
    assert written == f'add element inet stockade ports {{ "{name}" }}\n'
    assert not set(name) & set('"\n\r{};,# \t\\*')


@pytest.mark.parametrize(
    "operation",
    [
        AddChain("inet", "a b"),
        AddChain("inet", "a;b"),
        AddChain("ip", "a"),
        AddChain("inet", "a", "type filter hook forward priority 0; policy accept; } flush ruleset"),
        AddSet("inet", "s", ElementSet("ipv4_addr; elements")),
        AddSet("inet", "s", ElementSet("mark", comment='layout"; flags')),
        AddSet("inet", "s", ElementSet("mark", comment="x" * 129)),
        FillChain("inet", "c", ("accept\nflush ruleset",)),
        FillChain("inet", "c", ("accept; flush ruleset",)),
        FillChain("inet", "c", ('accept comment "x',)),
    ],
)
def test_no_operation_smuggles_another(operation: AddChain | AddSet | FillChain) -> None:
    with pytest.raises(Unspeakable):
        text((operation,))


def test_a_set_is_spelled_with_everything_it_declares() -> None:
    declared = ElementSet(
        "ipv4_addr . inet_service", flags=("dynamic", "timeout"), timeout=10, comment="why", dynamic=True
    )
    assert text((AddSet("inet", "seen", declared),)) == (
        "add set inet stockade seen { "
        'type ipv4_addr . inet_service; flags dynamic,timeout; timeout 10s; comment "why"\n}\n'
    )
