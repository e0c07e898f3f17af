"""Packet filters of others: what in them can lead a packet past our judgement, or make it judge another than it is.

An ``accept`` elsewhere is harmless: every base chain has its say. So is what translates destinations before we judge
(we judge the connection's real ends) and sources after (likewise). That is all that ordinary engines and firewalls do.
"""

from collections.abc import Iterator

from stockade.core.compile.nft.marks import MARKS
from stockade.core.model.finding import Finding, Severity
from stockade.core.model.ids import CheckId
from stockade.core.posture.host.facts import Act, BaseChain, Does, ForeignTable

JUDGED_AT = -5
"""The priority of our judgement at forward, input and output (``core.compile.nft.inet``)."""
CONNECTION_BITS = MARKS.admitted | MARKS.kept | MARKS.older | MARKS.reverse | MARKS.proxied

BY_ACT = {
    Does.TRANSLATES: (CheckId("late-translation"), Severity.HIGH),
    Does.REWRITES: (CheckId("rewritten-packets"), Severity.HIGH),
    Does.UNTRACKS: (CheckId("untracked-packets"), Severity.LOW),
    Does.FORWARDS: (CheckId("forwarded-frames"), Severity.HIGH),
    Does.COPIES: (CheckId("forwarded-frames"), Severity.HIGH),
    Does.OFFLOADS: (CheckId("offloaded-connections"), Severity.HIGH),
    Does.ASKS: (CheckId("queued-packets"), Severity.MEDIUM),
    Does.MARKS: (CheckId("mark-bits"), Severity.HIGH),
}


def filters(tables: tuple[ForeignTable, ...]) -> Iterator[Finding]:
    """Yield a finding for each chain and thing that it does. A table without a chain at a hook does nothing."""
    for table in tables:
        if table.chains:
            for act in sorted(set(table.acts)):
                yield from _act(table, act)


def _act(table: ForeignTable, act: Act) -> Iterator[Finding]:
    if not _matters(table, act):
        return
    check, severity = BY_ACT[act.does]
    yield Finding(
        check,
        f"{table.family} {table.name} {act.chain}",
        severity,
        f"{act.does.value}{f' ({act.detail})' if act.detail else ''}; {_hooks(table)}",
        _remedy(table, act),
    )


def _matters(table: ForeignTable, act: Act) -> bool:
    match act.does:
        case Does.TRANSLATES:
            return any(_after_judgement(chain) for chain in table.chains)
        case Does.MARKS:
            return bool(act.packet & MARKS.packet or act.connection & CONNECTION_BITS)
        case _:
            return True


def _after_judgement(chain: BaseChain) -> bool:
    """Tell whether a translation of destinations there comes after what this host itself sends was judged."""
    return chain.kind == "nat" and chain.hook == "output" and chain.priority >= JUDGED_AT


def _hooks(table: ForeignTable) -> str:
    return "at " + ", ".join(f"{each.hook} {each.priority}" for each in sorted(set(table.chains), key=_place))


def _place(chain: BaseChain) -> tuple[str, int, str]:
    return chain.hook, chain.priority, chain.name


def _remedy(table: ForeignTable, act: Act) -> str:
    if table.family.startswith("legacy"):
        program = "ip6tables-legacy" if table.family.endswith("6") else "iptables-legacy"
        return f"{program} -t {table.name} -S shows the rule; find out whose it is, and remove it"
    where = f"{table.family} {table.name} {act.chain}"
    if act.does is Does.TRANSLATES:
        return f"translate before priority {JUDGED_AT}, as dstnat (-100) does: nft list chain {where}"
    if act.does is Does.MARKS:
        bits = f"packet bits {MARKS.packet:#010x} and connection bits {CONNECTION_BITS:#010x}"
        return f"have it leave {bits} alone, by a mask: nft list chain {where}"
    return f"find out whose it is, and remove it: nft list chain {where}"
