"""The control database: every table that a person's decisions and the gateway's promises live in.

SQLite embedded (control.db in the state directory), PostgreSQL in production; through SQLAlchemy either way. Changing a
table means a new SCHEMA_VERSION and a migration.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, String, Table

SCHEMA_VERSION = 1

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

ledger = Table(
    "ledger",
    metadata,
    Column("reservation_id", String, primary_key=True),
    Column("reserved_at_us", BigInteger, nullable=False),
    Column("hour", String(13), nullable=False, index=True, doc="UTC hour, 2026-11-24T02"),
    Column("reserved_usd", Float, nullable=False),
    Column("settled_usd", Float, doc="null while the question is in flight"),
)
