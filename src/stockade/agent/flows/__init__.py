"""Flows on the node: what the kernel tells is aggregated, kept on disk until the controller has it, and sent."""
