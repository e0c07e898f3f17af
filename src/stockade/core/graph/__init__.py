"""Flows and policy → one graph: what was observed, what is permitted, what a draft would permit.

Pure functions over stored flows and snapshots. Nothing here judges by itself: what policy permits is asked of
``stockade.core.plan``, which asks what compiles policy.
"""
