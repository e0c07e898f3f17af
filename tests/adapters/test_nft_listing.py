"""What nft prints → values, whatever others have put there."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.adapters.nft.listing import Torn, parse, seconds
from stockade.core.compile.nft.ruleset import Ruleset


def listing(*body: str, family: str = "inet") -> str:
    return "\n".join([f"table {family} stockade {{ # progname python3", "\tflags owner", "", *body, "}", ""])


def element_set(*lines: str, kind: str = "set") -> str:
    return listing(f"\t{kind} s {{", *(f"\t\t{line}" for line in lines), "\t}")


def only(listed: str) -> frozenset[str]:
    return parse(listed).tables[0].sets["s"].elements


def test_elements_go_over_several_lines() -> None:
    listed = element_set("type ipv4_addr", "elements = { 10.0.0.1, 10.0.0.2,", "\t     10.0.0.3 }")
    assert only(listed) == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_an_element_met_twice_means_that_another_was_missed() -> None:
    with pytest.raises(Torn):
        parse(element_set("type ipv4_addr", "elements = { 10.0.0.1, 10.0.0.2,", "\t     10.0.0.1 }"))


def test_time_that_passes_is_no_difference() -> None:
    one = element_set("type ipv4_addr", "timeout 1m30s", "elements = { 10.0.0.1 timeout 1h1s expires 59m3s4ms }")
    other = element_set("type ipv4_addr", "timeout 1m30s", "elements = { 10.0.0.1 timeout 1h1s expires 2s }")
    assert parse(one) == parse(other)
    assert only(one) == {"10.0.0.1 timeout 3601s"}
    assert parse(one).tables[0].sets["s"].timeout == 90


@pytest.mark.parametrize(
    ("span", "whole"), [("", 0), ("30s", 30), ("1d2h3m4s", 93784), ("1m30s500ms", 90), ("1h", 3600)]
)
def test_spans(span: str, whole: int) -> None:
    assert seconds(span) == whole


def test_addresses_are_in_one_spelling() -> None:
    listed = element_set("type ipv6_addr", "elements = { ::ffff:10.0.0.1, ::10.0.0.1, 64:ff9b::10.0.0.1 }")
    assert only(listed) == {"::ffff:a00:1", "::a00:1", "64:ff9b::a00:1"}


def test_raw_numbers_have_their_width_back() -> None:
    typed = "typeof iifname . @th,64,128 . @th,0,16"
    listed = element_set(typed, 'elements = { "a" . 0x1 . 80, "b" . 0xfe800000000000000000000000000001 . 0x50 }')
    assert only(listed) == {
        '"a" . 0x00000000000000000000000000000001 . 0x0050',
        '"b" . 0xfe800000000000000000000000000001 . 0x0050',
    }


def test_what_others_wrote_never_ends_the_reading_early() -> None:
    """A comment may say anything, braces and commas included."""
    listed = listing(
        "\tset s {",
        "\t\ttype ipv4_addr",
        '\t\tcomment "}, elements = { 6.6.6.6 }"',
        '\t\telements = { 10.0.0.1 comment "a, b", 10.0.0.2 }',
        "\t}",
        "",
        "\tflowtable f {",
        "\t\thook ingress priority 0",
        "\t}",
        "",
        "\tchain c {",
        '\t\taccept comment "table inet stockade {"',
        "\t}",
    )
    (table,) = parse(listed).tables
    assert table.sets["s"].elements == {'10.0.0.1 comment "a, b"', "10.0.0.2"}
    assert table.sets["s"].comment == "}, elements = { 6.6.6.6 }"
    assert table.chains["c"].rules == ('accept comment "table inet stockade {"',)


def test_an_option_of_somebody_elses_makes_another_set() -> None:
    plain = parse(element_set("type ipv4_addr", "flags interval")).tables[0].sets["s"]
    merged = parse(element_set("type ipv4_addr", "flags interval", "auto-merge")).tables[0].sets["s"]
    assert plain != merged


def test_other_tables_are_not_ours() -> None:
    assert parse("table ip stockade {\n}\ntable inet other {\n\tchain c {\n\t}\n}\n") == Ruleset()


@given(st.text(alphabet='abc01.:{}"\t\n,= stelmnpy@#', max_size=200))
def test_any_text_gives_a_value(noise: str) -> None:
    for listed in (
        noise,
        listing(noise),
        element_set("type ipv4_addr", noise),
        element_set(f"elements = {{ {noise} }}"),
    ):
        with suppress(Torn):
            assert isinstance(parse(listed), Ruleset)
