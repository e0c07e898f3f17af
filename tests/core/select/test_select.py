"""The language of selectors: what parses to what, what is refused where, and what matches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.core import select
from stockade.core.model.labels import Label, Labels
from stockade.core.model.selector import ALL, And, Equal, Has, In, Not, Or, Selector
from stockade.core.select.index import LabelIndex, Pairs
from stockade.core.select.parser import DEPTH_LIMIT

KEYS = ("app", "env", "example.com/team", "name")
VALUES = ("shop", "prod", "web", "a b", "and", 'quo"te', "\x00", "new\nline", "größe", "*")


def labelled(**labels: str) -> Labels:
    return Labels(tuple(Label(key, value) for key, value in sorted(labels.items())))


values = st.sampled_from(VALUES) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
keys = st.sampled_from(KEYS) | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,10}", fullmatch=True).filter(select.is_key)
leaves: st.SearchStrategy[Selector] = st.one_of(
    st.just(ALL),
    st.builds(Equal, keys, values, st.booleans()),
    st.builds(Has, keys),
    st.builds(In, keys, st.lists(values, min_size=1, max_size=4).map(lambda found: tuple(sorted(set(found))))),
)
selectors = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)
few = st.sampled_from(VALUES[:4])
labels_of_few = st.dictionaries(st.sampled_from(KEYS[:3]), few, max_size=3).map(
    lambda found: Labels(tuple(Label(key, value) for key, value in sorted(found.items())))
)

PARSED = [
    ("app = shop", Equal("app", "shop")),
    ("app=shop", Equal("app", "shop")),
    ("app != shop", Not(Equal("app", "shop"))),
    ("not app = shop", Not(Equal("app", "shop"))),
    ("role in (web, api, web)", In("role", ("api", "web"))),
    ("role not in (web)", Not(In("role", ("web",)))),
    ("has example.com/team", Has("example.com/team")),
    ("not has team", Not(Has("team"))),
    ("all", ALL),
    ("trusted(team = red)", Equal("team", "red", trusted=True)),
    ("a = b and c = d and e = f", And((Equal("a", "b"), Equal("c", "d"), Equal("e", "f")))),
    ("a = b and (c = d and e = f)", And((Equal("a", "b"), Equal("c", "d"), Equal("e", "f")))),
    ("a = b or c = d and e = f", Or((Equal("a", "b"), And((Equal("c", "d"), Equal("e", "f")))))),
    ("(a = b or c = d) and e = f", And((Or((Equal("a", "b"), Equal("c", "d"))), Equal("e", "f")))),
    ('app = "all"', Equal("app", "all")),
    (r"app = 'it\'s \u{41}\n'", Equal("app", "it's A\n")),
    ("image = registry.example:5000/shop/web@sha256-1", Equal("image", "registry.example:5000/shop/web@sha256-1")),
    ("\n  app\n=\tshop ", Equal("app", "shop")),
]


@pytest.mark.parametrize(("text", "expected"), PARSED)
def test_parses(text: str, expected: Selector) -> None:
    assert select.parse(text) == expected


REFUSED = [
    ("", 0, 1, "a term is missing", ""),
    ("app == shop", 4, 2, "no sign", "="),
    ("app = web*", 9, 1, "no wildcards", '"web*"'),
    ("a = b, c = d", 5, 1, "comma", "and"),
    ("a = b adn c = d", 6, 3, "cannot follow", "and"),
    ("hass app", 0, 4, "no keyword", "has"),
    ("role in (api", 12, 1, ") is missing", ""),
    ("role in ()", 9, 1, "a value is missing", ""),
    ("role on (a)", 5, 2, "after the key", "in"),
    ("a = and", 4, 3, "reserved", '"and"'),
    ("any(a = b)", 0, 3, "whole end", ""),
    ('"a" = b', 0, 3, "without quotes", "a"),
    ('a = "b', 4, 2, "never closed", ""),
    (r'a = "\q"', 5, 2, "escape", ""),
    (r'a = "\u{110000}"', 5, 2, "escape", ""),
    ("a = b)", 5, 1, "never opened", ""),
    ("a = b && c = d", 6, 2, "no sign", "and"),
    ("not not", 7, 1, "a term is missing", ""),
    ("a = größe", 6, 1, "must be quoted", '"größe"'),
    ("a = \x1b[2J", 4, 1, "U+001B", ""),
    ('a = ""', 4, 2, "cannot have this value", ""),
    ('a = "' + "x" * 257 + '"', 4, 259, "cannot have this value", ""),
    ("k" * 318 + " = v", 0, 318, "no label has such a key", ""),
    ("app:shop", 0, 8, "no label has such a key", "app = shop"),
    ("_a = b", 0, 2, "no label has such a key", ""),
    ("app", 3, 1, "after the key", ""),
    ("trust(a = b)", 0, 5, "no keyword", "trusted"),
]


@pytest.mark.parametrize(("text", "offset", "length", "message", "nearest"), REFUSED)
def test_refuses_and_says_where(text: str, offset: int, length: int, message: str, nearest: str) -> None:
    with pytest.raises(select.SelectorError) as refused:
        select.parse(text)
    error = refused.value
    assert message in error.message
    assert (error.offset, error.length, error.nearest) == (offset, length, nearest)


def test_depth_and_length_are_bounded() -> None:
    just = "(" * DEPTH_LIMIT + "all" + ")" * DEPTH_LIMIT
    assert select.parse(just) == ALL
    for text in (f"({just})", "not " * 5000 + "all", "(" * 16_000, "a = " + "b" * 20_000):
        with pytest.raises(select.SelectorError):
            select.parse(text)


@given(selectors)
def test_text_of_a_normal_selector_parses_back(selector: Selector) -> None:
    selector = select.normal(selector)
    text = select.text(selector)
    assert text.isprintable()
    assert select.parse(text) == selector
    assert select.normal(selector) == selector


@given(selectors)
def test_text_of_any_selector_means_the_same(selector: Selector) -> None:
    assert select.parse(select.text(selector)) == select.normal(selector)


@given(
    st.text()
    | st.lists(st.sampled_from(["a", "=", "(", ")", " in ", " not ", "has ", ",", '"', "\\", "all", " and ", "!"])).map(
        "".join
    )
)
def test_any_text_parses_or_is_refused_inside_itself(text: str) -> None:
    refused = None
    try:
        selector = select.parse(text)
    except select.SelectorError as error:
        refused = error
    if refused is None:
        assert select.parse(select.text(selector)) == selector
        return
    assert 0 <= refused.offset <= len(text)
    assert refused.length >= 1
    assert refused.message.isprintable()


MATCHED = [
    ("app = shop", True),
    ("app != shop", False),
    ("team = red", False),
    ("team != red", True),
    ("team not in (red, blue)", True),
    ("app in (shop, cart)", True),
    ("has app and not has team", True),
    ("name = web-0", True),
    ("name in (web-1)", False),
    ("has name", True),
    ("all", True),
    ("not all", False),
    ("app = cart or role = web", True),
]


@pytest.mark.parametrize(("text", "expected"), MATCHED)
def test_matches(text: str, expected: bool) -> None:
    assert select.matches(select.parse(text), labelled(app="shop", role="web"), "web-0") is expected


def test_keys_are_the_dimensions_mentioned() -> None:
    assert select.keys(select.parse("a = b and not (has c or d in (e)) or all")) == {"a", "c", "d"}
    assert select.keys(ALL) == frozenset()


SATISFIABLE = [
    ("all", True),
    ("not all", False),
    ("a = b and a = c", False),
    ("a = b and a != b", False),
    ("a != b and a != c and has a", True),
    ("a not in (b, c) and a in (b, c)", False),
    ("not has name", False),
    ("name != web-0", True),
    ("not has a and a = b", False),
    ("(a = b or a = c) and not has d and d != e", True),
    ("has a and not has a", False),
]


@pytest.mark.parametrize(("text", "expected"), SATISFIABLE)
def test_satisfiable(text: str, expected: bool) -> None:
    assert select.satisfiable(select.parse(text)) is expected


@given(selectors, labels_of_few, few)
def test_what_matches_is_satisfiable(selector: Selector, labels: Labels, name: str) -> None:
    if select.matches(selector, labels, name):
        assert select.satisfiable(selector)


def unsatisfiable(keys: int) -> Selector:
    """Build a selector that no workload matches, which shows only once every key has been given a value."""
    either = tuple(Or((Equal(f"k{i}", "a"), Equal(f"k{i}", "b"))) for i in range(keys))
    clash = Or((And((Equal("z", "a"), Equal("z", "b"))), And((Equal("z", "c"), Equal("z", "d")))))
    return And((*either, clash))


@pytest.mark.long
def test_where_the_search_meets_its_bound_the_answer_is_yes() -> None:
    assert select.satisfiable(unsatisfiable(5)) is False
    assert select.satisfiable(unsatisfiable(40)) is True


members = st.dictionaries(st.integers(0, 20), st.tuples(labels_of_few, few), max_size=12)


@given(members, members, st.sets(st.integers(0, 20)), st.lists(selectors, max_size=4))
def test_the_index_agrees_with_matches(
    first: dict[int, tuple[Labels, str]],
    second: dict[int, tuple[Labels, str]],
    gone: set[int],
    asked: list[Selector],
) -> None:
    index = LabelIndex()
    for i, (labels, name) in [*first.items(), *second.items()]:
        index.add(i, labels, name)
    for i in gone:
        index.remove(i)
    kept = {i: member for i, member in {**first, **second}.items() if i not in gone}
    assert len(index) == len(kept)
    for selector in asked:
        expected = {i for i, (labels, name) in kept.items() if select.matches(selector, labels, name)}
        assert set(index.select(selector)) == expected


@pytest.mark.long
@given(st.lists(st.tuples(labels_of_few, few), max_size=12), members, st.lists(selectors, max_size=4))
def test_an_index_that_was_loaded_is_one_that_was_filled(
    first: list[tuple[Labels, str]], second: dict[int, tuple[Labels, str]], asked: list[Selector]
) -> None:
    pairs = Pairs()
    loaded, filled = LabelIndex(pairs), LabelIndex()
    loaded.load([pairs.carried(labels, name) for labels, name in first])
    for i, (labels, name) in [*enumerate(first), *second.items()]:
        filled.add(i, labels, name)
    for i, (labels, name) in second.items():
        loaded.add(i, labels, name)
    for selector in asked:
        assert loaded.select(selector) == filled.select(selector)


@given(members, selectors)
def test_what_the_index_answers_is_the_callers_own(held: dict[int, tuple[Labels, str]], selector: Selector) -> None:
    index = LabelIndex()
    for i, (labels, name) in held.items():
        index.add(i, labels, name)
    found = index.select(selector)
    before = set(found)
    found.clear()
    found.add(1000)
    assert set(index.select(selector)) == before


def test_an_emptied_index_holds_nothing() -> None:
    index = LabelIndex()
    index.add(1, labelled(app="shop"), "web-0")
    index.add(1, labelled(app="cart"), "web-0")
    assert not index.select(select.parse("app = shop"))
    index.remove(1)
    index.remove(1)
    assert not index.select(ALL)
    assert not index._values
    assert not index._keys
