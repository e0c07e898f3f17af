"""A plan, by example: what its parts say of the shop under one policy and the next."""

from stockade.core import policy
from stockade.core.fold import apply, fold
from stockade.core.model.event import PolicyActivated
from stockade.core.model.ids import Version
from stockade.core.model.packet import Direction
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.plan import plan
from stockade.core.plan.reach import reach
from stockade.core.plan.values import Change, WarningKind
from stockade.testing.scenarios import container, host, host_itself

HEAD = "apiVersion: stockade.dev/v1\n"
FULL = f"{HEAD}kind: EnforcementMode\nmetadata: {{name: shop}}\nspec: {{select: has app, mode: full}}\n"
SELECTIVE = FULL.replace("mode: full", "mode: selective")
WEB_TO_API = "{name: web-to-api, allow: {from: role = web, to: role = api, on: [tcp/8080]}}"
API_TO_DB = "{name: api-to-db, allow: {from: role = api, to: role = db, on: [postgres]}}"


def rules(*each: str, more: str = "") -> str:
    """Write the shop's policy."""
    listed = "".join(f"    - {rule}\n" for rule in each)
    return f"{HEAD}kind: Policy\nmetadata: {{name: shop}}\nspec:\n  rules:\n{listed}{more}"


def shop(*documents: str) -> Snapshot:
    """Make the shop, two webs, under a policy of YAML documents."""
    files = [policy.SourceText(f"{at}.yaml", each.encode()) for at, each in enumerate(documents)]
    draft = policy.read(files)
    assert not draft.problems
    names = ("web-1", "web-2", "api-1", "db-1")
    inventory = fold([host(), host_itself(), *(container(name, 11 + at) for at, name in enumerate(names))])
    return apply(inventory, PolicyActivated(Version(7), policy.complete(draft.policy)))


def test_what_a_new_rule_opens_is_told_by_identity_with_its_pairs() -> None:
    it = plan(shop(FULL, rules(API_TO_DB)), shop(FULL, rules(API_TO_DB, WEB_TO_API)))
    assert it.against == 7
    assert [(each.rule, each.change) for each in it.rules] == [("shop/web-to-api", Change.ADDED)]
    (gained,) = it.gained
    assert (gained.source, gained.destination, gained.on) == ("app=shop role=web", "app=shop role=api", "tcp/8080")
    assert (gained.sources, gained.destinations, gained.before, gained.after) == (2, 1, 0, 2)
    assert (gained.rule, gained.where.file, gained.where.line) == ("shop/web-to-api", "1.yaml", 7)
    assert gained.pairs == (("web-1", "api-1"), ("web-2", "api-1"))
    assert it.lost == ()


def test_a_deny_in_selective_is_told_with_just_what_it_closes() -> None:
    deny = "{name: closed, deny: {from: role = web, to: role = db, on: [tcp, icmp/3/4]}}"
    (lost,) = plan(shop(SELECTIVE, rules(WEB_TO_API)), shop(SELECTIVE, rules(WEB_TO_API, deny))).lost
    assert (lost.source, lost.destination) == ("app=shop role=web", "app=shop role=db")
    assert lost.on == "icmp/3/4, tcp"


def test_the_same_written_elsewhere_changes_nothing() -> None:
    it = plan(shop(FULL, rules(WEB_TO_API, API_TO_DB)), shop(rules(WEB_TO_API, API_TO_DB), FULL))
    assert it.gained == it.lost == it.rules == it.documents == ()
    assert [(each.programs, each.elements) for each in it.points] == [(0, 0)]  # it hears where its rules are written


def test_half_open_says_which_end_denies_and_the_rule_that_is_missing() -> None:
    scoped = rules("{name: out, allow: {from: role = api, to: any(role = db), on: [postgres]}}")
    scoped = scoped.replace("spec:", "spec:\n  scope: role = api")
    (half,) = plan(shop(FULL, scoped), shop(FULL, scoped)).half_open
    assert (half.source, half.destination, half.on) == ("app=shop role=api", "app=shop role=db", "tcp/5432")
    assert (half.denied, half.rule) == (Direction.INGRESS, "shop/out")
    assert half.missing == (
        'allow: {from: "any(app = shop and role = api)", to: "any(app = shop and role = db)", on: [tcp/5432]}'
    )


def test_a_test_that_fails_says_why_and_refuses_the_draft() -> None:
    tests = "  tests:\n    - {from: {app: shop, role: web}, to: {app: shop, role: db}, on: tcp/5432, expect: allow}\n"
    it = plan(shop(FULL), shop(FULL, rules(API_TO_DB, more=tests)))
    (failed,) = it.tests
    assert (failed.passed, failed.because) == (False, "denied: no rule allows it")
    assert it.refused == (
        "1.yaml:8: test failed: app=shop role=web → app=shop role=db tcp/5432 allow: denied: no rule allows it",
    )


def test_an_invariant_that_no_rule_speaks_of_finds_its_counterexample_all_the_same() -> None:
    never = "spec: {never: name = web-2, reaches: role = api}"
    invariant = f"{HEAD}kind: Invariant\nmetadata: {{name: one}}\n{never}\n"
    draft = shop(FULL, rules(WEB_TO_API), invariant)
    (broken,) = plan(draft, draft).invariants
    assert (broken.holds, broken.counterexample) == (False, "web-2 → api-1 tcp/8080")


def test_only_is_broken_from_within_an_identity_too() -> None:
    peers = "{name: peers, allow: {from: role = web, to: role = web, on: [tcp/80]}}"
    only = f"{HEAD}kind: Invariant\nmetadata: {{name: one}}\nspec: {{only: role = api, reaches: role = web}}\n"
    draft = shop(FULL, rules(peers), only)
    assert plan(draft, draft).invariants[0].counterexample == "web-1 → web-2 tcp/80"


def test_warnings_name_the_rule_that_matches_nobody_and_the_one_that_never_decides() -> None:
    shut = "{name: shut, overrideDeny: {from: role = web, to: role = api}}"
    ghost = "{name: ghost, allow: {from: role = ghost, to: role = api, on: [tcp/1]}}"
    draft = shop(FULL, rules(WEB_TO_API, shut, ghost))
    found = {(each.kind, each.subject, each.text) for each in plan(draft, draft).warnings}
    assert (WarningKind.EMPTY, "shop/ghost", "role = ghost matches no workload") in found
    assert (WarningKind.SHADOWED, "shop/web-to-api", "another rule always decides before it") in found


def test_reach_lists_each_peer_with_the_rule_that_lets_it() -> None:
    it = reach(shop(FULL, rules(WEB_TO_API, API_TO_DB)), "api-1")
    assert [(each.peer, each.on, each.workloads, each.rule) for each in it.inbound if each.rule] == [
        ("app=shop role=web", "tcp/8080", 2, "shop/web-to-api")
    ]
    assert [(each.peer, each.on, each.rule) for each in it.outbound if each.rule] == [
        ("app=shop role=db", "tcp/5432", "shop/api-to-db")
    ]
