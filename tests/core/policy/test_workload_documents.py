"""Documents of workloads without an agent: what they say, and what every mistake in them is told."""

import pytest
from drafts import read, spec

from stockade.core import policy
from stockade.core.model.ids import Address
from stockade.core.model.inventory import WorkloadKind
from stockade.core.model.policy import PolicySet, UnmanagedWorkload, Where

OLD_DB = """\
apiVersion: stockade.dev/v1
kind: Workload
metadata: {name: old-db}
spec:
  labels: {role: db, app: shop}
  addresses: ["2001:DB8::10", 192.0.2.10]
  host: esx-3
  kind: vm
  description: until the move is over
"""


def told(text: str) -> list[tuple[int, int, str]]:
    return [(each.where.line, each.where.column, policy.advised(each)) for each in read(text).problems]


def addresses(*written: str) -> str:
    return spec("Workload", f"{{addresses: [{', '.join(written)}]}}")


def test_a_workload() -> None:
    draft = read(OLD_DB)
    assert draft.problems == ()
    assert draft.policy.workloads == (
        UnmanagedWorkload(
            "old-db",
            (Address("192.0.2.10"), Address("2001:db8::10")),
            (("app", "shop"), ("role", "db")),
            "esx-3",
            WorkloadKind.VM,
            "until the move is over",
            Where("0.yaml", 4, 1),
        ),
    )


def test_a_name_and_an_address_are_enough() -> None:
    (found,) = read(addresses("192.0.2.1")).policy.workloads
    assert found == UnmanagedWorkload("x", (Address("192.0.2.1"),), where=Where("0.yaml", 4, 1))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("127.0.0.1", '"127.0.0.1" is loopback'),
        ('"::1"', '"::1" is loopback'),
        ("224.0.0.1", '"224.0.0.1" is multicast'),
        ('"ff02::1"', '"ff02::1" is multicast'),
        ("0.0.0.0", '"0.0.0.0" is unspecified'),
        ("0.1.2.3", '"0.1.2.3" is unspecified'),
        ('"::"', '"::" is unspecified'),
        ("255.255.255.255", '"255.255.255.255" is broadcast'),
        ("169.254.0.1", '"169.254.0.1" is link-local'),
        ('"fe80::1"', '"fe80::1" is link-local'),
        ('"2001:db8::1%eth0"', 'names a zone; did you mean "2001:db8::1"?'),
        ('"::ffff:192.0.2.1"', 'is an IPv4 address in IPv6 clothes; did you mean "192.0.2.1"?'),
        ("192.0.2.1/32", 'is a prefix; did you mean "192.0.2.1"?'),
        ("192.0.2.0/24", "a network is named by a NetworkSet"),
        ("192.0.2.256", '"192.0.2.256" is not an address'),
        ("db.example", '"db.example" is not an address'),
        ("1.5", "quote it"),
    ],
)
def test_what_is_no_address_of_a_workload(written: str, said: str) -> None:
    draft = read(addresses("198.51.100.1", written))
    (problem,) = draft.problems
    assert said in policy.advised(problem)
    assert (problem.where.line, problem.where.column) == (4, 34)
    assert draft.policy.workloads == ()


def test_an_address_belongs_to_one_document() -> None:
    here, there = spec("Workload", "{addresses: [192.0.2.1]}", "a"), spec("Workload", '{addresses: ["192.0.2.1"]}', "b")
    (problem,) = read(here, there).problems
    assert problem.where == Where("1.yaml", 4, 20)
    assert problem.message == '"192.0.2.1" is claimed already (see 0.yaml:4)'


def test_an_address_stands_once_in_a_document_however_it_is_written() -> None:
    (problem,) = told(addresses('"2001:db8::1"', '"2001:DB8:0::1"'))
    assert problem[1:] == (
        35,
        '"2001:db8::1" is claimed already (see 0.yaml:4) (expected an address that no other workload claims)',
    )


@pytest.mark.parametrize(
    ("said", "column", "message"),
    [
        ("{addresses: []}", 19, "an empty list stands where addresses belong"),
        ("{labels: {a: b}}", 7, 'the workload lacks the field "addresses"'),
        ("{addresses: [192.0.2.1], labels: {name: x}}", 41, '"name" is the workload\'s own name'),
        ("{addresses: [192.0.2.1], labels: {and: x}}", 41, '"and" cannot be a label\'s key'),
        ("{addresses: [192.0.2.1], labels: {a: 1}}", 44, "YAML reads this as a number; quote it"),
        ('{addresses: [192.0.2.1], labels: {a: "x\\u200by"}}', 44, "holds a character that does not show"),
        ("{addresses: [192.0.2.1], kind: container}", 38, 'unknown kind of workload "container"'),
        ("{addresses: [192.0.2.1], kind: vmm}", 38, 'did you mean "vm"?'),
        ("{addresses: [192.0.2.1], adresses: x}", 32, 'unknown field "adresses"'),
    ],
)
def test_mistakes(said: str, column: int, message: str) -> None:
    (problem,) = told(spec("Workload", said))
    assert problem[:2] == (4, column)
    assert message in problem[2]


def test_a_second_document_of_a_name_is_refused() -> None:
    (problem,) = read(
        spec("Workload", "{addresses: [192.0.2.1]}"), spec("Workload", "{addresses: [192.0.2.2]}")
    ).problems
    assert problem.message == 'a second Workload named "x"'


def test_more_addresses_than_a_workload_has() -> None:
    (problem,) = told(addresses(*(f"10.0.{each // 256}.{each % 256}" for each in range(257))))
    assert "1 to 256 addresses" in problem[2]


def test_the_form_before_this_kind_is_the_form_where_there_is_none_of_it() -> None:
    with_one = PolicySet(workloads=read(OLD_DB).policy.workloads)
    assert b"workloads" not in policy.canonical(PolicySet())
    assert b'"workloads":[{"name":"old-db"' in policy.canonical(with_one)
    assert policy.content_hash(with_one) != policy.content_hash(PolicySet())
