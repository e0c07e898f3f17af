"""All kinds of documents: the form of each one's ``spec``. Names and places are put in by ``read``."""

import enum
import re
from datetime import UTC, datetime

from stockade.core.model.inventory import WorkloadKind
from stockade.core.model.labels import LabelSource
from stockade.core.model.policy import (
    Births,
    EnforcementMode,
    Invariant,
    LabelRule,
    Mode,
    NetworkSet,
    Never,
    Only,
    Quarantine,
    QuarantineException,
    Service,
    UnmanagedWorkload,
)
from stockade.core.policy import templates
from stockade.core.policy.ends import END, MODE_SELECTOR, ON, PORTS, SELECTOR
from stockade.core.policy.forms import (
    Field,
    Form,
    Given,
    choice,
    free_text,
    integer,
    items,
    pairs,
    pattern,
    record,
    scalar,
)
from stockade.core.policy.names import LABEL_VALUE, LABELS_SET
from stockade.core.policy.networks import CIDR, FQDN, OWN_ADDRESS, networks_outside
from stockade.core.policy.nodes import Node
from stockade.core.policy.policies import POLICY
from stockade.core.policy.report import Report, quoted
from stockade.core.policy.sets import Document

API_VERSION = "stockade.dev/v1"
PORTS_LIMIT = 256
"""Ports in one service."""
CIDR_LIMIT = 10_000
"""CIDRs, exceptions and FQDNs in one network set, each."""
ADDRESS_LIMIT = 256
"""Addresses of one workload."""
PRIORITY_LIMIT = 1_000_000


# Service

_PORTS = Field("ports", items("ports", PORTS, PORTS_LIMIT), "protocols, ports, port ranges, ICMP types", required=True)
_PROCESS = Field(
    "process",
    pattern("an absolute path", re.compile(r"/[^\x00-\x1f\x7f]*"), 4096),
    "the program that serves it (not enforced yet)",
)
_UNIT = Field(
    "unit",
    pattern("the name of a systemd unit", re.compile(r"[A-Za-z0-9:_.@\\-]+\.[a-z]+"), 255),
    "the systemd unit that serves it (not enforced yet)",
)


def _service(given: Given) -> Service | None:
    ports, process, unit = given.read(_PORTS), given.read(_PROCESS), given.read(_UNIT)
    return None if ports is None else Service("", tuple(sorted(set(ports))), process, unit)


# NetworkSet

_CIDRS = Field("cidrs", items("CIDRs", CIDR, CIDR_LIMIT, least=0), "prefixes in the set")
_EXCEPT_CIDRS = Field("except", items("CIDRs", CIDR, CIDR_LIMIT), "prefixes taken out of it")
_FQDNS = Field("fqdns", items("domain names", FQDN, CIDR_LIMIT), "domain names, for allow only (not enforced yet)")


def _network_set(given: Given) -> NetworkSet | None:
    cidrs, excepted = given.read(_CIDRS) or (), given.read(_EXCEPT_CIDRS) or ()
    fqdns = given.read(_FQDNS) or ()
    if _CIDRS not in given and _FQDNS not in given:
        given.report.add(given.spot, "this network set holds nothing", "cidrs or fqdns")
        return None
    for prefix in networks_outside(excepted, cidrs):
        message = f"the exception {prefix} lies inside no CIDR of this set"
        given.report.add(given.key(_EXCEPT_CIDRS), message, "a part of one of its cidrs")
    return NetworkSet("", tuple(sorted(set(cidrs))), tuple(sorted(set(excepted))), tuple(sorted(set(fqdns))))


# LabelRule

_SOURCE = Field("source", choice("label source", LabelSource), "whose word it is, and so how far it is trusted")
_WHERE = Field(
    "where",
    pairs("conditions", templates.FACT, LABEL_VALUE, 64),
    "facts that must all hold; * and ? are wildcards",
)
_SET = Field(
    "set",
    pairs("labels", templates.TARGET, templates.TEMPLATE, 64, least=1),
    "labels to set; {fact} is filled in, and an absent fact sets nothing",
    required=True,
)


def _label_rule(given: Given) -> LabelRule | None:
    source, conditions = given.read(_SOURCE) or LabelSource.RULE, given.read(_WHERE) or ()
    labels = given.read(_SET)
    for key, wanted in conditions:
        if problem := templates.unmet(key, wanted):
            given.report.add(given.key(_WHERE), *problem)
    for key, template in labels or ():
        if templates.starred(template) and not templates.starred(key):
            given.report.add(given.key(_SET), f"the * in {quoted(template)} follows no * in its key", "one fact")
    return None if labels is None else LabelRule("", labels, tuple(sorted(conditions)), source)


# EnforcementMode

_MODE_SELECT = Field("select", MODE_SELECTOR, "the workloads it is for", required=True)
_MODE = Field("mode", choice("mode", Mode), "how far policy is enforced", required=True)
_PRIORITY = Field(
    "priority",
    integer("a priority", -PRIORITY_LIMIT, PRIORITY_LIMIT),
    "the highest wins, then the stricter mode; 0 without it",
)
_BIRTHS = Field(
    "births", choice("word", Births), "on hosts that it selects: what happens to endpoints nobody has labelled yet"
)


def _enforcement_mode(given: Given) -> EnforcementMode | None:
    selector, mode = given.read(_MODE_SELECT), given.read(_MODE)
    priority, births = given.read(_PRIORITY) or 0, given.read(_BIRTHS)
    if selector is None or mode is None:
        return None
    return EnforcementMode("", selector, mode, priority, births)


# Invariant

_ONLY = Field("only", SELECTOR, "nobody but these reaches it")
_NEVER = Field("never", SELECTOR, "none of these reaches it")
_REACHES = Field("reaches", SELECTOR, "what is protected", required=True)
_ON = Field("on", ON, "ports, protocols and services; without it, every one")


def _invariant(given: Given) -> Invariant | None:
    only, never, reaches = given.read(_ONLY), given.read(_NEVER), given.read(_REACHES)
    on = given.read(_ON) or ()
    if (_ONLY in given) == (_NEVER in given):
        given.report.add(given.spot, "an invariant says only or never, one of them", "only: … or never: …")
        return None
    if reaches is None or (only is None and never is None):
        return None
    if only is not None:
        return Invariant("", Only(only, reaches, on))
    return None if never is None else Invariant("", Never(never, reaches, on))


# Quarantine

_FROM = Field("from", END, "connections to the workload from here are spared")
_TO = Field("to", END, "connections from the workload to here are spared")


def _exception(given: Given) -> QuarantineException | None:
    source, destination, on = given.read(_FROM), given.read(_TO), given.read(_ON) or ()
    if (_FROM in given) == (_TO in given):
        given.report.add(given.spot, "an exception says from or to, one of them", "from: … or to: …")
        return None
    return None if source is None and destination is None else QuarantineException(source, destination, on)


_EXCEPTION = record(
    "an exception", (_FROM, _TO, _ON), _exception, {"oneOf": [{"required": ["from"]}, {"required": ["to"]}]}
)


def _moment(node: Node, report: Report) -> datetime | None:
    found = scalar(node, report, "a moment")
    if found is None:
        return None
    try:
        if _MOMENT_WRITTEN.fullmatch(found.value):
            return datetime.fromisoformat(found.value).astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # the pattern lets 31 February through; it is refused below like any other text
    report.add(found.spot, f"{quoted(found.value)} is not a moment", "date, time and zone: 2030-01-01T00:00:00Z")
    return None


_MOMENT_WRITTEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_QUARANTINE_SELECT = Field("select", SELECTOR, "the workloads to cut off", required=True)
_SPARED = Field("except", items("exceptions", _EXCEPTION, 64, least=0), "what may pass all the same")
_REASON = Field("reason", free_text("a reason", 1000), "why; shown wherever the quarantine is")
_UNTIL = Field("until", Form(_moment, {"type": "string", "format": "date-time"}), "when it lapses; without it, never")


def _quarantine(given: Given) -> Quarantine | None:
    selector, spared = given.read(_QUARANTINE_SELECT), given.read(_SPARED) or ()
    reason, until = given.read(_REASON) or "", given.read(_UNTIL)
    return None if selector is None else Quarantine("", selector, spared, reason, until)


# Workload


class _WithoutAgent(str, enum.Enum):
    """What a workload without an agent may be."""

    UNMANAGED = WorkloadKind.UNMANAGED.value
    VM = WorkloadKind.VM.value
    INSTANCE = WorkloadKind.INSTANCE.value


_ADDRESSES = Field(
    "addresses", items("addresses", OWN_ADDRESS, ADDRESS_LIMIT), "its addresses, as hosts meet it", required=True
)
_WORKLOAD_LABELS = Field("labels", LABELS_SET, "its labels, on the operator's word")
WORKLOAD_HOST = free_text("a host's name", 253)
WITHOUT_AGENT = choice("kind of workload", _WithoutAgent)
WORKLOAD_DESCRIPTION = free_text("a description", 1000)
_HOST = Field("host", WORKLOAD_HOST, "the machine that carries it: a fact for label rules")
_KIND = Field("kind", WITHOUT_AGENT, "unmanaged (default), vm or instance")
_DESCRIPTION = Field("description", WORKLOAD_DESCRIPTION, "what it is, for people")


def _workload(given: Given) -> UnmanagedWorkload | None:
    addresses, labels = given.read(_ADDRESSES), given.read(_WORKLOAD_LABELS) or ()
    host, kind = given.read(_HOST) or "", given.read(_KIND) or _WithoutAgent.UNMANAGED
    description = given.read(_DESCRIPTION) or ""
    if not addresses:
        return None
    ordered = tuple(sorted(set(addresses))), tuple(sorted(labels))
    return UnmanagedWorkload("", *ordered, host, WorkloadKind(kind.value), description)


KINDS: dict[str, Form[Document]] = {
    "EnforcementMode": record("the enforcement mode", (_MODE_SELECT, _MODE, _PRIORITY, _BIRTHS), _enforcement_mode),
    "Invariant": record(
        "the invariant",
        (_ONLY, _NEVER, _REACHES, _ON),
        _invariant,
        {"oneOf": [{"required": ["only"]}, {"required": ["never"]}]},
    ),
    "LabelRule": record("the label rule", (_SOURCE, _WHERE, _SET), _label_rule),
    "NetworkSet": record(
        "the network set",
        (_CIDRS, _EXCEPT_CIDRS, _FQDNS),
        _network_set,
        {"anyOf": [{"required": ["cidrs"]}, {"required": ["fqdns"]}], "dependentRequired": {"except": ["cidrs"]}},
    ),
    "Policy": POLICY,
    "Quarantine": record("the quarantine", (_QUARANTINE_SELECT, _SPARED, _REASON, _UNTIL), _quarantine),
    "Service": record("the service", (_PORTS, _PROCESS, _UNIT), _service),
    "Workload": record("the workload", (_ADDRESSES, _WORKLOAD_LABELS, _HOST, _KIND, _DESCRIPTION), _workload),
}
"""The form of each kind's ``spec``, by the word that documents say."""
