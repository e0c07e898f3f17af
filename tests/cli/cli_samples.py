"""Replies as a real server would give them, for views to show."""

from stockade.core.model.ids import Address, HostId, Revision, RuleId, Version, WorkloadId
from stockade.core.model.inventory import WorkloadKind, WorkloadState
from stockade.core.model.labels import Label, LabelSource
from stockade.core.model.packet import Direction, Layer
from stockade.core.model.policy import Births, Expectation, Mode, Where
from stockade.core.plan.values import (
    Caution,
    Change,
    ConnectionChange,
    DocumentChange,
    EndVerdict,
    Explanation,
    Flip,
    HalfOpen,
    InvariantResult,
    NamedEnd,
    NearestRule,
    Plan,
    PointChange,
    RuleChange,
    TestResult,
    WarningKind,
)
from stockade.wire.api import Caller, HostView, Role, StatusReply, VersionReply, VersionView, WorkloadView

HOST = HostId("host-a")
SHOP = "policies/shop.yaml"
MOMENT = 1_700_000_000.0


def runtime(key: str, value: str) -> Label:
    return Label(key, value, LabelSource.RUNTIME, "compose")


def workload(name: str, *labels: Label, mode: Mode | None = Mode.VISIBILITY) -> WorkloadView:
    return WorkloadView(
        id=WorkloadId(f"docker:host-a:{name}"),
        name=name,
        kind=WorkloadKind.CONTAINER,
        state=WorkloadState.RUNNING,
        host=HOST,
        addresses=(Address("172.17.0.2"),),
        labels=labels,
        mode=mode,
    )


WEB = workload("web-2", runtime("role", "web"))
STRANGER = workload("stranger", mode=None)

STATUS = StatusReply(
    product="0.1.0",
    version=Version(8),
    revision=Revision(412),
    note="shop",
    author="ada",
    applied_at=MOMENT,
    started=MOMENT,
    pid=4242,
    you=Caller("ada", 1000, Role.APPLY),
    hosts=(
        HostView(
            HOST, Version(8), Version(8), confirmed=True, births=Births.HOLD, workloads=3, tracked=10, tracked_limit=100
        ),
    ),
    workloads=3,
    unknown=1,
    modes=((Mode.FULL, 2), (Mode.VISIBILITY, 1)),
)

PLAN = Plan(
    against=Version(7),
    id="b1946ac9",
    documents=(DocumentChange("EnforcementMode", "prod", Change.ADDED, Where("policies/modes.yaml", 4)),),
    rules=(
        RuleChange(RuleId("shop/api-to-cache"), Change.ADDED, Where(SHOP, 14)),
        RuleChange(RuleId("shop/web-to-db"), Change.REMOVED, Where(SHOP, 9)),
    ),
    gained=(
        ConnectionChange(
            "role=api", "role=cache", "tcp/6379", 2, 1, 0, 2, RuleId("shop/api-to-cache"), Where(SHOP, 14, 7)
        ),
    ),
    lost=(
        ConnectionChange(
            "role=web",
            "role=db",
            "tcp/5432",
            4,
            1,
            4,
            0,
            RuleId("shop/web-to-db"),
            Where(SHOP, 9, 7),
            live=2,
            pairs=(("web-1", "db-0"),),
        ),
    ),
    half_open=(HalfOpen("role=api", "networks(payments)", "tcp/443", Direction.EGRESS, "allow: {from: role = api}"),),
    tests=(TestResult("shop", Where(SHOP, 30), "web → db tcp/5432", Expectation.DENY, passed=True),),
    invariants=(InvariantResult("db-behind-api", Where(SHOP, 40), holds=True),),
    points=(PointChange(HOST, 2, 5),),
    points_total=41,
    warnings=(Caution(WarningKind.EMPTY, "shop/monitoring", "matches no workload", Where(SHOP, 21)),),
)

DENIED = Explanation(
    source=NamedEnd(
        "172.17.0.2",
        WEB.id,
        HOST,
        "172.17.0.2",
        WEB.labels,
        Mode.VISIBILITY,
        name="web-2",
        origins=('from Compose service "web" (docker on host-a)',),
    ),
    destination=NamedEnd(
        "db-0", WorkloadId("docker:host-a:db-0"), HOST, "172.17.0.3", (runtime("role", "db"),), name="db-0"
    ),
    on="tcp/5432",
    allowed=False,
    version=Version(8),
    ends=(
        EndVerdict(Direction.EGRESS, WEB.id, HOST, True, Layer.MODE, "mode visibility judges nothing"),
        EndVerdict(
            Direction.INGRESS,
            WorkloadId("docker:host-a:db-0"),
            HOST,
            False,
            Layer.MODE,
            "no rule allows it; mode full denies",
            Mode.FULL,
            where=Where("policies/modes.yaml", 4),
        ),
    ),
    nearest=NearestRule(RuleId("shop/api-to-db"), Where(SHOP, 9), "role=api → role=db tcp/5432", ("source",)),
    flip=Flip(
        'from: "role in (api, web)"',
        Where(SHOP, 9),
        tuple((f"web-{number}", "db-0") for number in (1, 3, 4, 5, 6, 7, 8, 9)),
        RuleId("shop/api-to-db"),
        also_count=8,
    ),
)

VERSION = VersionView(Version(8), "ada", "shop", MOMENT, "c0ffee", 1, 4, active=True)
APPLIED = VersionReply(version=VERSION, realised=True)
