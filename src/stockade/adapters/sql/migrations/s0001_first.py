"""Events, versions, audit, agents, births, checkpoints. Versions and audit can be added to and nothing else."""

from sqlalchemy import Connection, text

TABLES = (
    "create table events (revision bigint primary key, at double precision not null, payload text not null)",
    """create table versions (number bigint primary key, at double precision not null, author varchar not null,
       note text not null, hash varchar not null, restores bigint, policy text not null, files text not null,
       canonical text not null)""",
    """create table audit (number bigint primary key, at double precision not null, who varchar not null, uid bigint,
       action varchar not null, target text not null, outcome text not null, detail text not null)""",
    """create table agents (host varchar primary key, generation bigint not null, version bigint, revision bigint,
       fingerprint varchar not null, at double precision, error text not null)""",
    """create table births (workload varchar primary key, host varchar not null, at double precision not null,
       payload text not null)""",
    "create index births_at on births (at)",
    "create table checkpoints (revision bigint primary key, payload text not null)",
    """create table unconfirmed (version bigint primary key, returns_to bigint not null,
       deadline double precision not null)""",
    "create table kept (name varchar primary key, value text not null)",
)
APPEND_ONLY = ("versions", "audit")


def apply(connection: Connection) -> None:
    """Create everything."""
    for statement in TABLES:
        connection.execute(text(statement))
    for table in APPEND_ONLY:
        for statement in _refuse_changes(table, connection.dialect.name):
            connection.execute(text(statement))


def _refuse_changes(table: str, dialect: str) -> tuple[str, ...]:
    """Return what makes the database itself refuse to change or remove a row; triggers have no common dialect."""
    if dialect == "postgresql":
        return (
            f"""create function {table}_is_append_only() returns trigger language plpgsql as
                $$ begin raise exception '{table} is append-only'; end $$""",
            f"""create trigger {table}_append_only before update or delete on {table}
                for each row execute function {table}_is_append_only()""",
            f"""create trigger {table}_no_truncate before truncate on {table}
                for each statement execute function {table}_is_append_only()""",
        )
    refuse = f"begin select raise(abort, '{table} is append-only'); end"
    exists = f"exists (select 1 from {table} where number = new.number)"
    return (
        f"create trigger {table}_no_update before update on {table} {refuse}",
        f"create trigger {table}_no_delete before delete on {table} {refuse}",
        # `insert or replace` removes the row in its way without asking the trigger above
        f"create trigger {table}_no_replace before insert on {table} when {exists} {refuse}",
    )
