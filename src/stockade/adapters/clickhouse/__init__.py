"""The flow store in ClickHouse: embedded with chDB, or a server by URL. One schema, one SQL.

``apart`` holds it in a process of its own and loads nothing of it here; ``store`` is the store itself.
"""
