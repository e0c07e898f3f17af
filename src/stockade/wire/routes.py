"""The table of the HTTP API's routes, which server, command line and OpenAPI document share. Pure values."""

import enum
from typing import Any

import msgspec

from stockade.wire.api import (
    AcceptedReply,
    AcceptRequest,
    ApplyRequest,
    AssignmentReply,
    AuditReply,
    BirthsReply,
    BirthView,
    CompletenessReply,
    ConfirmRequest,
    ConsoleLinkReply,
    ConsoleLinkRequest,
    DoctorReply,
    EventsReply,
    ExplainReply,
    FindingsReply,
    HistoryReply,
    LabelsReply,
    LabelsRequest,
    Message,
    ModeRequest,
    OffRequest,
    PlanReply,
    PlanRequest,
    PolicyReply,
    ReachReply,
    ReopenRequest,
    ReportReply,
    ReportRequest,
    Role,
    RollbackRequest,
    RulesReply,
    StatusReply,
    VersionReply,
    WatchLine,
    WorkloadDetail,
    WorkloadReply,
    WorkloadsReply,
)
from stockade.wire.flows import FlowGroupsReply, FlowsReply, FlowStoreReply, FlowView
from stockade.wire.graph import GraphReply, GraphRequest
from stockade.wire.suggestions import SuggestReply, SuggestRequest


class Method(str, enum.Enum):
    """HTTP methods in use."""

    GET = "GET"
    PUT = "PUT"
    POST = "POST"


class Media(str, enum.Enum):
    """Content types in use."""

    JSON = "application/json"
    LINES = "application/x-ndjson"
    METRICS = "text/plain"


LARGEST = 2**53 - 1
"""A number that is a parameter lies between 0 and this: JSON keeps it whole (RFC 8259, 6)."""


class Parameter(msgspec.Struct, frozen=True):
    """One path or query parameter. ``type`` is ``str``, ``int``, ``float`` or ``bool`` (``0`` and ``1``)."""

    name: str
    type: type[str | int | float | bool]
    summary: str
    path: bool = False
    required: bool = False


class Route(msgspec.Struct, frozen=True):
    """One endpoint. ``name`` is the operation's id; ``reply`` None: a document of its own (metrics, OpenAPI)."""

    name: str
    method: Method
    path: str
    summary: str
    role: Role
    reply: type[Message] | None
    request: type[Message] | None = None
    parameters: tuple[Parameter, ...] = ()
    media: Media = Media.JSON
    lines: Any = None
    """What each line of the ``watch`` variant is."""


def _query(name: str, kind: type[str | int | float | bool], summary: str, *, required: bool = False) -> Parameter:
    return Parameter(name=name, type=kind, summary=summary, required=required)


def _path(name: str, kind: type[str | int], summary: str) -> Parameter:
    return Parameter(name=name, type=kind, summary=summary, path=True, required=True)


def _get(name: str, path: str, summary: str, reply: type[Message] | None, *parameters: Parameter) -> Route:
    return Route(name, Method.GET, path, summary, Role.READ, reply, parameters=parameters)


def _post(name: str, path: str, summary: str, request: type[Message], reply: type[Message]) -> Route:
    return Route(name, Method.POST, path, summary, Role.APPLY, reply, request)


_FLOWS = (
    _query("from", str, "The source: a selector, name, address, prefix, network:NAME, dns:NAME, known or unknown"),
    _query("to", str, "The destination, likewise"),
    _query("on", str, "Ports as policy writes them, or services' names, with commas"),
    _query("verdict", str, "With commas: allowed, denied, would-be-denied, carried"),
    _query("rule", str, "The deciding rule, as policy/rule, or default, held, forged, midstream, invalid"),
    _query("host", str, "Only what this host saw"),
    _query("process", str, "A program at the judging end; after =, all that is told there; none: nothing is"),
    _query("end", str, "At which end it was judged: source, destination"),
    _query("via", str, "How it came there, with commas: direct, translated, proxy"),
    _query("service", str, "What it was opened to, as address:port; none: to its destination"),
    _query("since", float, "Only flows since then"),
    _query("until", float, "Only flows before then"),
)
"""Which flows."""

_GRAPH = (
    _query("by", str, "The zoom: labels' keys, workload, process, with commas (app,role)"),
    *_FLOWS[:2],
    _query("select", str, "Only edges of which either end is a workload that this selector matches"),
    _query("verdict", str, "Only edges on which some connection was so: allowed, denied, would-be-denied, carried"),
    _query("since", float, "From then on (an hour before until)"),
    _query("until", float, "Up to then, with the inventory and the policy as they were then (now)"),
    _query("at", float, "The same as until"),
    _query("limit", int, "At most so many nodes and edges (2000, at most 2000)"),
    _query("unseen", bool, "Also edges on which nothing was seen and something is permitted"),
    _query("seen", bool, "Only what was seen: what policy permits is not asked"),
)
"""Which part of the map."""

ROUTES: tuple[Route, ...] = (
    _get("status", "/v1/status", "The installation at a glance", StatusReply),
    msgspec.structs.replace(
        _get(
            "workloads",
            "/v1/workloads",
            "All workloads; with watch=1 a stream of changes, one JSON object a line",
            WorkloadsReply,
            _query("watch", bool, "Stay and stream changes"),
            _query("select", str, "Only workloads that this selector matches (not with watch)"),
        ),
        lines=WatchLine,
    ),
    _get(
        "workload",
        "/v1/workloads/{workload}",
        "One workload, and what its host's kernel shows of it",
        WorkloadDetail,
        _path("workload", str, "Its name or id"),
    ),
    _get("completeness", "/v1/completeness", "What the kernels show and no source tells of", CompletenessReply),
    _get("labels", "/v1/labels", "Every label in use", LabelsReply),
    Route(
        "set-labels",
        Method.PUT,
        "/v1/labels/{workload}",
        "Set all operator labels of a workload",
        Role.APPLY,
        WorkloadReply,
        LabelsRequest,
        (_path("workload", str, "Name or id of the workload"),),
    ),
    msgspec.structs.replace(
        _post("plan", "/v1/plan", "What a draft would change", PlanRequest, PlanReply), role=Role.READ
    ),
    _post("apply", "/v1/apply", "Make a draft active as a new version", ApplyRequest, VersionReply),
    _post("confirm", "/v1/confirm", "Keep the version that waits to be confirmed", ConfirmRequest, VersionReply),
    _get("history", "/v1/history", "Every version", HistoryReply, _query("limit", int, "At most so many")),
    _get(
        "policy",
        "/v1/policy/{version}",
        "One version's files and canonical documents",
        PolicyReply,
        _path("version", str, "Its number, or `active`"),
    ),
    _post("rollback", "/v1/rollback", "Make an earlier version active again", RollbackRequest, VersionReply),
    _post("mode", "/v1/mode", "Change the enforcement mode of what a selector matches", ModeRequest, VersionReply),
    _post("off", "/v1/off", "Open everything", OffRequest, VersionReply),
    _get(
        "explain",
        "/v1/explain",
        "Why a connection is allowed or denied",
        ExplainReply,
        _query("source", str, "Workload name or id, or an address", required=True),
        _query("destination", str, "Workload name or id, or an address", required=True),
        _query("on", str, "A port as policy writes it: tcp/5432, icmp, or a service's name", required=True),
    ),
    _get(
        "reach",
        "/v1/reach",
        "Who may reach it, and what it may reach",
        ReachReply,
        _query("of", str, "Workload name or id, or a selector", required=True),
    ),
    _get(
        "rules",
        "/v1/rules/{host}",
        "The compiled rules of a host, each beside its policy line",
        RulesReply,
        _path("host", str, "The host's id, or `local` where there is only one"),
    ),
    msgspec.structs.replace(
        _get(
            "births",
            "/v1/births",
            "Birth records; with watch=1 a stream of them, one JSON object a line",
            BirthsReply,
            _query("last", int, "At most so many (20)"),
            _query("workload", str, "Only this workload, by name or id"),
            _query("slowest", bool, "Those first that waited longest"),
            _query("watch", bool, "Stay and stream births as they come and change; the other parameters do not count"),
        ),
        lines=BirthView,
    ),
    _get(
        "audit",
        "/v1/audit",
        "The audit log",
        AuditReply,
        _query("last", int, "At most so many (50)"),
        _query("before", int, "Only entries with a smaller number"),
    ),
    _get(
        "findings",
        "/v1/findings",
        "What is wrong on which host, what could not be assessed, and what is accepted",
        FindingsReply,
        _query("host", str, "Only this host's"),
    ),
    _post("accept-finding", "/v1/findings/accept", "Accept a finding that is open", AcceptRequest, AcceptedReply),
    _post("reopen-finding", "/v1/findings/reopen", "Accept a finding no more", ReopenRequest, AcceptedReply),
    msgspec.structs.replace(
        _get(
            "flows",
            "/v1/flows",
            "Recorded flows, newest first; with watch=1 a stream of them as they come, one JSON object a line",
            FlowsReply,
            *_FLOWS,
            _query("limit", int, "At most so many (100)"),
            _query("after", str, "Those behind an earlier reply's: its `after`"),
            _query("watch", bool, "Stay and stream flows as they are stored; times, limit and after do not count"),
        ),
        lines=FlowView,
    ),
    _get(
        "flow-groups",
        "/v1/flows/groups",
        "Recorded flows summed up",
        FlowGroupsReply,
        *_FLOWS,
        _query("by", str, "What to group by, with commas: source.KEY, destination.KEY, port, verdict, rule, day, …"),
        _query("order", str, "What to order by: connections, bytes, packets, last, … (connections)"),
        _query("limit", int, "At most so many groups (100)"),
    ),
    _get(
        "flow-store",
        "/v1/flows/store",
        "Where flows are kept, how many, and what was lost",
        FlowStoreReply,
        _query("since", float, "Losses since then (the last hour)"),
    ),
    msgspec.structs.replace(
        _post("suggest", "/v1/suggest", "A policy from recorded flows; changes nothing", SuggestRequest, SuggestReply),
        role=Role.READ,
    ),
    _get("graph", "/v1/graph", "The map: who talked to whom, and what policy permits", GraphReply, *_GRAPH),
    Route(
        "draft-graph",
        Method.POST,
        "/v1/graph",
        "The map, with what a draft would permit; changes nothing",
        Role.READ,
        GraphReply,
        GraphRequest,
        _GRAPH,
    ),
    _get("doctor", "/v1/doctor", "What works here, what will not, and why", DoctorReply),
    msgspec.structs.replace(
        _post(
            "console-link",
            "/v1/console/link",
            "A one-time link into the web console",
            ConsoleLinkRequest,
            ConsoleLinkReply,
        ),
        role=Role.READ,
    ),
    _get(
        "events",
        "/v1/events",
        "Stored events after a revision",
        EventsReply,
        _query("since", int, "The revision to start after (0)"),
        _query("limit", int, "At most so many (1000)"),
    ),
    _post("report", "/v1/agent/report", "What an agent says of its host", ReportRequest, ReportReply),
    Route(
        "assignment",
        Method.GET,
        "/v1/agent/assignment",
        "What an agent shall enforce, once it is newer than what it has",
        Role.APPLY,
        AssignmentReply,
        parameters=(
            _query("host", str, "The host's id", required=True),
            _query("since", str, "The fingerprint in force there"),
            _query("wait", float, "Seconds to wait for a newer one (0, at most 60)"),
        ),
    ),
    msgspec.structs.replace(_get("metrics", "/metrics", "Metrics for Prometheus", None), media=Media.METRICS),
    _get("openapi", "/openapi.json", "This API as an OpenAPI document", None),
)


def route(name: str) -> Route:
    """Return the route of that name; ``KeyError`` where there is none."""
    return _BY_NAME[name]


_BY_NAME = {each.name: each for each in ROUTES}
