"""Tables of workloads: what is made of them, and where each mistake is."""

import string
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stockade.core import policy
from stockade.core.model.ids import Address
from stockade.core.model.inventory import WorkloadKind
from stockade.core.model.policy import PolicySet, UnmanagedWorkload
from stockade.core.policy.sheet import ROW_LIMIT, Sheet, _nodes, read_sheet

HEADER = "name,addresses,app\n"


def sheet(text: str | bytes) -> Sheet:
    return read_sheet(policy.SourceText("it.csv", text.encode() if isinstance(text, str) else text))


def told(text: str | bytes) -> list[tuple[int, int, str]]:
    found = sheet(text)
    assert found.workloads == ()
    assert found.documents == ""
    return [(each.where.line, each.where.column, policy.advised(each)) for each in found.problems]


def read_back(found: Sheet) -> tuple[UnmanagedWorkload, ...]:
    draft = policy.read([policy.SourceText("it.yaml", found.documents.encode())])
    assert draft.problems == ()
    return policy.placeless(draft.policy).workloads


FULL = """\
name,addresses,app,label:host,host,kind,description
old-db,"192.0.2.10, 2001:DB8::10",shop,"a ""b"", c",esx-3,vm,"two
lines"
 till-1 , 192.0.2.20;192.0.2.21 ,,,,,

"""


def test_a_table() -> None:
    found = sheet(FULL)
    assert found.problems == ()
    assert found.workloads == (
        UnmanagedWorkload(
            "old-db",
            (Address("192.0.2.10"), Address("2001:db8::10")),
            (("app", "shop"), ("host", 'a "b", c')),
            "esx-3",
            WorkloadKind.VM,
            "two\nlines",
        ),
        UnmanagedWorkload("till-1", (Address("192.0.2.20"), Address("192.0.2.21"))),
    )
    assert read_back(found) == found.workloads


def test_the_documents_are_readable_and_in_one_order() -> None:
    rows = ["b,192.0.2.2,shop", "a,192.0.2.1,shop"]
    found = [sheet(HEADER + "\n".join(each)) for each in (rows, rows[::-1])]
    assert found[0].documents == found[1].documents
    assert found[0].documents == (
        "apiVersion: stockade.dev/v1\nkind: Workload\nmetadata: {name: a}\n"
        "spec: {labels: {app: shop}, addresses: [192.0.2.1]}\n---\n"
        "apiVersion: stockade.dev/v1\nkind: Workload\nmetadata: {name: b}\n"
        "spec: {labels: {app: shop}, addresses: [192.0.2.2]}\n"
    )


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_as_spreadsheets_write_them(separator: str, ends: str, mark: bytes) -> None:
    rows = ["Name,Address,app", ",,", '"a","192.0.2.1","x"', "", "b,192.0.2.2,"]
    text = ends.join(row.replace(",", separator) for row in rows)
    found = sheet(mark + text.encode())
    assert [(each.name, each.addresses, each.labels) for each in found.workloads] == [
        ("a", ("192.0.2.1",), (("app", "x"),)),
        ("b", ("192.0.2.2",), ()),
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("", 1, 1, "the table is empty"),
        ("\n,,\n", 1, 1, "the table is empty"),
        (HEADER, 1, 1, "the table holds no workload"),
        ("name,app\na,b\n", 1, 1, "the header lacks the column addresses"),
        ("a,192.0.2.1\n", 1, 1, "the header lacks the column name or addresses"),
        ("name,adress\na,1\n", 1, 6, 'unknown column "adress"; did you mean "addresses"?'),
        ("name,address,hots\n", 1, 14, 'unknown column "hots"; did you mean "host"?'),
        ("name,address,addresses\n", 1, 14, 'a second column "addresses"'),
        ("name,address,app,label:app\n", 1, 18, 'a second column "label:app"'),
        ("name,address,\na,192.0.2.1,b\n", 1, 14, "a column without a header"),
        ("name,address,my app\n", 1, 14, '"my app" cannot be a label\'s key'),
        ("name,address,label:name\n", 1, 14, '"name" is the workload\'s own name'),
        (HEADER + "Old DB,192.0.2.1,x\n", 2, 1, '"Old DB" cannot be a name; did you mean "old-db"?'),
        (HEADER + ",192.0.2.1,x\n", 2, 1, "this row has no name"),
        (HEADER + "a,,x\n", 2, 3, "this row has no address"),
        (HEADER + "a,192.0.2.1\n", 2, 3, "this row has 2 cells, the header 3"),
        (HEADER + "a,192.0.2.1,x,y\n", 2, 15, "this row has 4 cells, the header 3"),
        (HEADER + "a,192.0.2.1,x\na,192.0.2.2,x\n", 3, 1, 'a second workload named "a"'),
        (HEADER + "a,192.0.2.1,x\nb,192.0.2.1,x\n", 3, 3, '"192.0.2.1" is claimed already (see it.csv:2)'),
        (HEADER + 'a,"192.0.2.1 127.0.0.1",x\n', 2, 14, '"127.0.0.1" is loopback'),
        (HEADER + "a,192.0.2.1/32,x\n", 2, 3, 'did you mean "192.0.2.1"?'),
        (HEADER + 'a,192.0.2.1,"x\n', 2, 13, "this quote is never closed"),
        (HEADER + 'a,192.0.2.1,"x"y\n', 2, 16, "text after a closing quote"),
        (HEADER + "a,192.0.2.1,x\u200by\n", 2, 13, "holds a character that does not show"),
        (HEADER + "a,192.0.2.1," + "x" * 257 + "\n", 2, 13, "1 to 256 characters"),
        (HEADER.encode() + b"a,192.0.2.1,\xe4\n", 2, 13, "byte 0xe4 is not UTF-8"),
        (HEADER.encode("utf-16"), 1, 1, "is not UTF-8"),
        (HEADER + "a,192.0.2.1,\x00\n", 2, 13, "control character U+0000"),
        ("name,address,kind\na,192.0.2.1,vmm\n", 2, 13, 'unknown kind of workload "vmm"; did you mean "vm"?'),
    ],
)
def test_each_mistake_has_its_place(text: str | bytes, line: int, column: int, said: str) -> None:
    found = told(text)
    assert (found[0][0], found[0][1]) == (line, column), found
    assert said in found[0][2]


def test_every_bad_row_is_reported_and_nothing_is_made_of_the_good_ones() -> None:
    rows = "".join(f"w-{each},10.0.0.{each},x\n" for each in range(1, 250)) + "A,10.9.0.1,x\nb,10.9.0.300,x\n"
    assert [each[:2] for each in told(HEADER + rows)] == [(251, 1), (252, 3)]


def test_of_many_mistakes_some_are_listed_and_all_that_were_met_are_counted() -> None:
    found = sheet(HEADER + "".join(f"A{each},10.0.0.1,x\n" for each in range(1000)))
    assert len(found.problems) == 200
    assert found.unlisted > 0


def test_as_many_workloads_as_a_file_of_documents_holds_and_one_more() -> None:
    rows = [f"w-{each},10.{each >> 16}.{each >> 8 & 255}.{each & 255},x\n" for each in range(ROW_LIMIT + 1)]
    assert len(sheet(HEADER + "".join(rows[:-1])).workloads) == ROW_LIMIT
    ((line, column, said),) = told(HEADER + "".join(rows))
    assert (line, column) == (ROW_LIMIT + 2, 1)
    assert said.startswith("more than 10,000 workloads")


def test_documents_that_would_not_be_read_back_are_refused() -> None:
    about = "x" * 1000
    rows = "".join(f"w-{each},10.0.{each >> 8}.{each & 255},{about}\n" for each in range(4000))
    ((_, _, said),) = told(f"name,address,description\n{rows}")
    assert "split the table" in said


def test_the_documents_are_counted_as_their_reader_counts() -> None:
    from stockade.core.policy import nodes, report

    (workload,) = sheet(FULL.partition("\n till")[0]).workloads
    text = policy.to_documents(PolicySet(workloads=(workload,)))
    composer = nodes._Composer(text, report.Report("x", text, report.Tally()), 0)
    list(composer.documents())
    assert composer.count == _nodes(workload)


PIECES = st.sampled_from([*'",;\t\n\r ', "name", "addresses", "192.0.2.1", "::1", "label:", "app", "é", "\ufeff"])


@settings(deadline=None)
@given(st.lists(PIECES, max_size=30).map("".join), st.booleans())
@example('"', False)
@example('name,addresses\n"', False)
def test_it_never_raises_and_points_inside_the_file(text: str, headed: bool) -> None:
    whole = HEADER + text if headed else text
    found = sheet(whole)
    for each in found.problems:
        assert each.where.line >= 1
        assert each.where.column >= 1
    assert bool(found.problems) != bool(found.workloads)
    if found.workloads:
        assert read_back(found) == found.workloads


@pytest.mark.parametrize("seed", range(20))
def test_what_a_random_table_says_is_what_was_meant(seed: int) -> None:
    random = Random(seed)
    meant = [
        UnmanagedWorkload(
            f"w-{each}",
            (Address(f"10.0.0.{each}"),),
            tuple((key, _value(random)) for key in ("app", "role") if random.random() < 0.7),
        )
        for each in range(1, 20)
    ]
    rows = [
        [each.name, each.addresses[0], *(_quoted(dict(each.labels).get(key, "")) for key in ("app", "role"))]
        for each in meant
    ]
    text = "name,address,app,role\n" + "".join(",".join(row) + "\n" for row in rows)
    assert sheet(text).workloads == tuple(sorted(meant, key=lambda each: each.name))


def _value(random: Random) -> str:
    return "".join(random.choice(string.ascii_letters + ' ",;#é') for _ in range(6)).strip() or "x"


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if set(value) & set('",;') else value
