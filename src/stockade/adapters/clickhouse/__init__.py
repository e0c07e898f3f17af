"""The flow store in ClickHouse: embedded in this process with chDB, or a server by URL. One schema, one SQL."""

from stockade.adapters.clickhouse.store import ClickHouseFlowStore, open_flow_store

__all__ = ["ClickHouseFlowStore", "open_flow_store"]
