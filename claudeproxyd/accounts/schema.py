"""The tables of the accounts' database: the ledger's, and those of keys.

``attempts`` has a row for each attempt, and one, with 0 for its number, for a request that had none; its key makes
entering one twice harmless. A request's id begins with its time, so that rows are added at the end, and the latest are
found there. What rows have in common, who asked whom for what, is a ``series``, so that ``days``, the totals by which
questions are answered, are rows of plain numbers. They lie by block of days and then by series: a question reads the
blocks that it needs, in the order in which it adds them up. Rows of ``attempts`` go after a while, the totals stay.

``keys`` has what was minted, also what was revoked since: where there ever was a key, nobody calls without one. Of a
key's secrets ``key_digests`` has the SHA-256. Each change of either counts ``key_changes`` up, which other daemons look
at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

VERSION = 2
"""A database of a higher one is not touched; to a lower one what is missing is added, at the start."""

BLOCK = 32
"""Days of a block."""

FIGURES = (
    "attempts",
    "requests",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "thinking_tokens",
    "nano_usd",
    "unpriced_tokens",
    "estimated_tokens",
)
"""The sums of a day, in the order of their columns. ``requests`` counts first attempts, so that each request counts
once, where it went first. ``unpriced_tokens`` and ``estimated_tokens`` are all tokens of attempts whose model has no
price, and of those whose output is our estimate."""

SERIES = ("client", "labels", "model", "model_served", "provider", "credential")
"""What the figures can be asked by; ``labels`` is a JSON object, its names sorted."""

ATTEMPTS = (
    "series",
    "request_id",
    "attempt",
    "time",
    "session",
    "operation",
    "outcome",
    "status",
    "stop_reason",
    "upstream_request_id",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "thinking_tokens",
    "estimated",
    "nano_usd",
    "duration",
)


class SqlTypes(NamedTuple):
    """How a database says what the tables are made of."""

    number: str
    """A whole number of 64 bits."""
    own_number: str
    """One that the database gives, as a primary key."""
    real: str
    text: str
    """Compared byte by byte."""
    blob: str
    clustered: str
    """After a table: its rows lie in the order of their key."""
    once: str
    """In the table of series: there is each once."""


SQLITE = SqlTypes(
    "INTEGER", "INTEGER PRIMARY KEY", "REAL", "TEXT", "BLOB", " WITHOUT ROWID", f", UNIQUE ({', '.join(SERIES)})"
)


def tables(of: SqlTypes) -> Sequence[str]:
    """Return the statements that add what is missing. A later version adds some, and changes none."""
    return (
        f"""CREATE TABLE IF NOT EXISTS series (
            id {of.own_number},
            {", ".join(f"{name} {of.text} NOT NULL" for name in SERIES)}{of.once}
        )""",
        f"""CREATE TABLE IF NOT EXISTS attempts (
            request_id {of.text} NOT NULL,
            attempt {of.number} NOT NULL,
            time {of.real} NOT NULL,
            series {of.number} NOT NULL,
            session {of.text} NOT NULL,
            operation {of.text} NOT NULL,
            outcome {of.text} NOT NULL,
            status {of.number} NOT NULL,
            stop_reason {of.text},
            upstream_request_id {of.text} NOT NULL,
            input_tokens {of.number},
            output_tokens {of.number},
            cache_read_tokens {of.number},
            cache_write_tokens {of.number},
            cache_write_1h_tokens {of.number},
            thinking_tokens {of.number},
            estimated {of.number} NOT NULL,
            nano_usd {of.number},
            duration {of.real} NOT NULL,
            PRIMARY KEY (request_id, attempt)
        ){of.clustered}""",
        f"""CREATE TABLE IF NOT EXISTS days (
            block {of.number} NOT NULL,
            series {of.number} NOT NULL,
            day {of.number} NOT NULL,
            {", ".join(f"{name} {of.number} NOT NULL" for name in FIGURES)},
            PRIMARY KEY (block, series, day)
        ){of.clustered}""",
        f"""CREATE TABLE IF NOT EXISTS keys (
            name {of.text} PRIMARY KEY,
            labels {of.text} NOT NULL,
            models {of.text} NOT NULL,
            max_concurrency {of.number} NOT NULL,
            created {of.real} NOT NULL,
            expires {of.real},
            revoked {of.real}
        ){of.clustered}""",
        f"""CREATE TABLE IF NOT EXISTS key_digests (
            digest {of.blob} PRIMARY KEY,
            name {of.text} NOT NULL,
            created {of.real} NOT NULL,
            expires {of.real},
            last_used {of.real}
        ){of.clustered}""",
        f"CREATE TABLE IF NOT EXISTS key_changes (number {of.number} NOT NULL)",
        "INSERT INTO key_changes SELECT 0 WHERE NOT EXISTS (SELECT * FROM key_changes)",
    )
