"""The nft helper: a program of its own (``holding.py``), run by path, behind a process boundary. Never imported."""
