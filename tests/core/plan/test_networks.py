"""Addresses outside the inventory, as a plan tells them apart: by every set that they lie in, before and after."""

from collections.abc import Callable

import pytest

from stockade.core import policy
from stockade.core.fold import apply, fold
from stockade.core.model.event import PolicyActivated
from stockade.core.model.ids import Version
from stockade.core.model.snapshot import Snapshot
from stockade.core.plan.plan import plan
from stockade.core.plan.values import ConnectionChange
from stockade.testing.scenarios import SHOP

HEAD = "apiVersion: stockade.dev/v1\n"
FULL = HEAD + "kind: EnforcementMode\nmetadata: {name: shop}\nspec: {select: has role, mode: full}\n"
Written = Callable[..., Snapshot]


def out(*lines: str) -> str:
    """Write a policy of some rules from api."""
    rules = "".join(f"    - {{name: r{at}, {each}}}\n" for at, each in enumerate(lines))
    return f"{HEAD}kind: Policy\nmetadata: {{name: shop}}\nspec:\n  rules:\n{rules}"


def allow(network: str, on: str = "https") -> str:
    """Write an allow from api to a network set."""
    return f"allow: {{from: role = api, to: networks({network}), on: [{on}]}}"


def partners(*cidrs: str) -> str:
    """Write a network set."""
    return f"{HEAD}kind: NetworkSet\nmetadata: {{name: partners}}\nspec: {{cidrs: [{', '.join(cidrs)}]}}\n"


def shop(*documents: str) -> Snapshot:
    """Make the shop in full under a policy of YAML documents."""
    draft = policy.read([policy.SourceText(f"{at}.yaml", each.encode()) for at, each in enumerate((FULL, *documents))])
    assert not draft.problems
    return apply(fold(SHOP), PolicyActivated(Version(1), policy.complete(draft.policy)))


def told(changes: tuple[ConnectionChange, ...]) -> list[tuple[str, str, str]]:
    return [(each.source, each.destination, each.on) for each in changes]


def test_narrowing_the_world_to_the_internet_loses_what_is_private() -> None:
    it = plan(shop(out(allow("world"))), shop(out(allow("internet"))))
    assert it.gained == ()
    assert told(it.lost) == [("role=api", "networks(world)", "tcp/443")]


def test_a_set_that_grows_gains_connections_where_no_rule_changed() -> None:
    before, after = (
        shop(out(allow("partners")), partners(*of)) for of in (["8.0.0.0/24"], ["8.0.0.0/24", "9.0.0.0/24"])
    )
    it = plan(before, after)
    assert it.rules == ()
    assert told(it.gained) == [("role=api", "networks(partners) (was networks(world))", "tcp/443")]
    assert told(plan(after, before).lost) == [("role=api", "networks(world) (was networks(partners))", "tcp/443")]


def test_a_set_outside_the_world_goes_elsewhere() -> None:
    before, after = (shop(out(allow("partners")), partners(of)) for of in ("198.51.100.0/24", "8.0.0.0/24"))
    assert told(plan(before, after).lost) == [("role=api", "elsewhere (was networks(partners))", "tcp/443")]


def test_where_two_sets_overlap_is_a_place_of_its_own() -> None:
    own = [partners("9.0.0.0/8"), partners("9.9.0.0/16", "10.9.0.0/16").replace("partners", "others")]
    both = out(allow("partners"), allow("others", "ssh"))
    denied = out(
        allow("partners"), allow("others", "ssh"), allow("others", "https").replace("allow", "overrideDeny", 1)
    )
    it = plan(shop(both, *own), shop(denied, *own))
    assert told(it.lost) == [("role=api", "networks(others, partners)", "tcp/443")]


@pytest.mark.parametrize("name", ["world", "internet", "private"])
def test_where_clouds_hand_out_credentials_is_opened_by_its_own_name_alone(name: str) -> None:
    before = shop(out(allow("metadata")))
    it = plan(before, shop(out(allow(name))))
    assert told(it.lost) == [("role=api", "networks(metadata)", "tcp/443")]
