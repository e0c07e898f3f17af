"""Real packets between namespaces: servers that send, answer and watch, one in each namespace.

Everything here but ``values`` runs in bare interpreters (no site packages) and so imports the standard library alone.
"""
