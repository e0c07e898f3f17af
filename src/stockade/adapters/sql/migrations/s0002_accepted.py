"""Findings that somebody accepts."""

from sqlalchemy import Connection, text


def apply(connection: Connection) -> None:
    """Create what they are kept in."""
    connection.execute(text("create table accepted_findings (id varchar primary key, payload text not null)"))
