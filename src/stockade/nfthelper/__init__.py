"""The nft helper: a program of its own (``__main__.py``), run by path, behind a process boundary. Never imported."""
