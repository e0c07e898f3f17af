"""Flows that devices without an agent tell of: heard, put together, stored under the device's own name."""
