"""Rules written out, as a user would add them to a policy: what is written here can be read back."""

import re
from collections.abc import Iterable, Iterator

from stockade.core import select
from stockade.core.model.inventory import Workload
from stockade.core.model.labels import NAME
from stockade.core.model.net import ANYTHING, LAST_PORT, PORTED, Ports, Protocol
from stockade.core.model.policy import End as RuleEnd
from stockade.core.model.policy import Networks, Rule, Selected, ServiceRef
from stockade.core.model.selector import And, Equal, Selector
from stockade.core.plan.portset import EVERYTHING, PortSet
from stockade.core.policy import ports_text

_BARE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 =()./_-]*")
"""What means itself in YAML, even between commas and braces."""


def told(workload: Workload, keys: Iterable[str]) -> Selector:
    """Return a selector of workloads like this one: its labels of some dimensions, or any one where it has none."""
    labels = workload.labels.items
    terms = [Equal(each.key, each.value) for each in labels if each.key in keys]
    terms += [Equal(NAME, workload.name)] if NAME in keys else []
    terms = terms or [Equal(each.key, each.value) for each in labels[:1]]
    return terms[0] if len(terms) == 1 else And(tuple(terms))


def end_text(end: RuleEnd) -> str:
    """Return one end of a rule as policy writes it."""
    if isinstance(end, Networks):
        return f"networks({', '.join(end.names)})"
    text = select.text(end.selector)
    return f"any({text})" if end.anywhere else text


def on_text(on: Iterable[ServiceRef]) -> str:
    """Return what a rule speaks of, as policy writes it; nothing written is any."""
    return ", ".join(ports_text(each) if isinstance(each, Ports) else each for each in on) or "any"


def rule_text(rule: Rule) -> str:
    """Return a rule in one line: ``role = api → role = db  postgres``."""
    return f"{end_text(rule.source)} → {end_text(rule.destination)}  {on_text(rule.on)}"


def anywhere(selector: Selector) -> Selected:
    """Return an end of a rule that means workloads wherever they lie."""
    return Selected(selector, anywhere=True)


def allow_text(source: RuleEnd, destination: RuleEnd, on: Iterable[ServiceRef]) -> str:
    """Return an allow in one line of YAML, less its name."""
    return f"allow: {{from: {quoted(end_text(source))}, to: {quoted(end_text(destination))}, on: [{on_text(on)}]}}"


def quoted(text: str) -> str:
    """Return a text as a YAML scalar."""
    if '"' in text or "\\" in text:
        return "'" + text.replace("'", "''") + "'"
    return f'"{text}"'


def scalar(text: str) -> str:
    """Return a text as a YAML scalar, bare where it may be."""
    return text if _BARE.fullmatch(text) else quoted(text)


def services(ports: PortSet) -> tuple[Ports, ...]:
    """Return ports as services that a rule may list.

    Policy names no port 0, and protocols without a name only together with all others: alone they become ``any``.
    """
    if ports == EVERYTHING:
        return (ANYTHING,)
    named = [each for each in ports.ranges if each.protocol is not Protocol.ANY]
    return tuple(part for each in named for part in _written(each)) or (ANYTHING,)


def _written(ports: Ports) -> Iterator[Ports]:
    if (ports.first, ports.last) == (0, LAST_PORT):
        yield ports
    elif ports.protocol in PORTED:
        if ports.last:
            yield Ports(ports.protocol, max(ports.first, 1), ports.last)
    else:
        yield from _types(ports)


def _types(ports: Ports) -> Iterator[Ports]:
    """Whole ICMP types where they are whole, single codes where not."""
    at = ports.first
    while at <= ports.last:
        last = at + 255 if at % 256 == 0 and at + 255 <= ports.last else at
        yield Ports(ports.protocol, at, last)
        at = last + 1
