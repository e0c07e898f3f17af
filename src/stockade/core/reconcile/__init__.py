"""Desired × observed → ordered operations, as values: make, then switch; ``text`` spells a step for nft."""

from stockade.core.reconcile.operations import Operation, Step
from stockade.core.reconcile.spelling import Unspeakable, text
from stockade.core.reconcile.steps import distrust, made, settled, steps

__all__ = ["Operation", "Step", "Unspeakable", "distrust", "made", "settled", "steps", "text"]
