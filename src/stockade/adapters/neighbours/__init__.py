"""Introductions on a bridge: an endpoint hears of its neighbours, and they, and the host itself, of it."""

from stockade.adapters.neighbours.link import LinkNeighbours

__all__ = ["LinkNeighbours"]
