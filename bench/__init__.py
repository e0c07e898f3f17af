"""Benchmarks: each prints its figures beside their targets (``python -m bench.NAME [--quick] [--json]``)."""
