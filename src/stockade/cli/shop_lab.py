"""The lab that ``examples/shop`` is written for, a value: three tiers, monitoring, a service outside, an intruder."""

from stockade.testing.lab import Topology, bridged, lab_bridge, outside

SHOP = Topology(
    host="lab",
    bridges=(
        lab_bridge("shop", "10.20.0.0/24", "fd20::/64"),
        lab_bridge("ops", "10.21.0.0/24", "fd21::/64"),
    ),
    nodes=(
        bridged("web-1", "shop", app="shop", env="prod", role="web"),
        bridged("api-1", "shop", app="shop", env="prod", role="api"),
        bridged("db-1", "shop", app="shop", env="prod", role="db"),
        bridged("prometheus", "ops", app="prometheus", role="monitoring"),
        bridged("intruder", "ops", app="intruder"),
        outside("payments", "203.0.113.10", "2001:db8:7::10"),
    ),
)
