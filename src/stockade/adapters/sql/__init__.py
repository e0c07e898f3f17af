"""The store in a SQL database: SQLite in one file (WAL), or PostgreSQL. Statements are SQLAlchemy Core's, for both."""

from stockade.adapters.sql.store import SqlStore, open_store

__all__ = ["SqlStore", "open_store"]
