"""The tables as they are at the newest schema, for statements. What creates them lives in ``migrations``."""

from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, String, Table, Text

METADATA = MetaData()

EVENTS = Table(
    "events",
    METADATA,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("payload", Text, nullable=False),
)

VERSIONS = Table(
    "versions",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("author", String, nullable=False),
    Column("note", Text, nullable=False),
    Column("hash", String, nullable=False),
    Column("restores", BigInteger, nullable=True),
    Column("policy", Text, nullable=False),
    Column("files", Text, nullable=False),
    Column("canonical", Text, nullable=False),
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("who", String, nullable=False),
    Column("uid", BigInteger, nullable=True),
    Column("action", String, nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

AGENTS = Table(
    "agents",
    METADATA,
    Column("host", String, primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=True),
    Column("revision", BigInteger, nullable=True),
    Column("fingerprint", String, nullable=False),
    Column("at", Float, nullable=True),
    Column("error", Text, nullable=False),
)

BIRTHS = Table(
    "births",
    METADATA,
    Column("workload", String, primary_key=True),
    Column("host", String, nullable=False),
    Column("at", Float, nullable=False, index=True),
    Column("payload", Text, nullable=False),
)

CHECKPOINTS = Table(
    "checkpoints",
    METADATA,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("payload", Text, nullable=False),
)

UNCONFIRMED = Table(
    "unconfirmed",
    METADATA,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("returns_to", BigInteger, nullable=False),
    Column("deadline", Float, nullable=False),
)

ACCEPTED = Table(
    "accepted_findings",
    METADATA,
    Column("id", String, primary_key=True),
    Column("payload", Text, nullable=False),
)

KEPT = Table(
    "kept",
    METADATA,
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
)

STEPS = Table(
    "schema_steps",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False),
    Column("at", Float, nullable=False),
)
