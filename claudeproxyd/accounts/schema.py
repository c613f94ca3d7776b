"""The tables of the accounts' database: the ledger's, and those of keys.

``attempts`` has a row for each attempt; its key makes entering one twice harmless. A request's id begins with its time,
so that rows are added at the end, and the latest are found there. What rows have in common, who asked whom for what, is
a ``series``, so that ``days``, the totals by which questions are answered, are rows of plain numbers. They lie by block
of days and then by series: a question reads the blocks that it needs, in the order in which it adds them up. Rows of
``attempts`` go after a while, the totals stay.

``keys`` has what was minted, also what was revoked since: where there ever was a key, nobody calls without one. Of a
key's secrets ``key_digests`` has the SHA-256. Each change of either counts ``key_changes`` up, which other daemons look
at.
"""

from __future__ import annotations

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

STATEMENTS = (
    f"""CREATE TABLE IF NOT EXISTS series (
        id INTEGER PRIMARY KEY,
        {", ".join(f"{name} TEXT NOT NULL" for name in SERIES)},
        UNIQUE ({", ".join(SERIES)})
    )""",
    """CREATE TABLE IF NOT EXISTS attempts (
        request_id TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        time REAL NOT NULL,
        series INTEGER NOT NULL,
        session TEXT NOT NULL,
        operation TEXT NOT NULL,
        outcome TEXT NOT NULL,
        status INTEGER NOT NULL,
        stop_reason TEXT,
        upstream_request_id TEXT NOT NULL,
        input_tokens INTEGER,
        output_tokens INTEGER,
        cache_read_tokens INTEGER,
        cache_write_tokens INTEGER,
        cache_write_1h_tokens INTEGER,
        thinking_tokens INTEGER,
        estimated INTEGER NOT NULL,
        nano_usd INTEGER,
        duration REAL NOT NULL,
        PRIMARY KEY (request_id, attempt)
    ) WITHOUT ROWID""",
    f"""CREATE TABLE IF NOT EXISTS days (
        block INTEGER NOT NULL,
        series INTEGER NOT NULL,
        day INTEGER NOT NULL,
        {", ".join(f"{name} INTEGER NOT NULL" for name in FIGURES)},
        PRIMARY KEY (block, series, day)
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS keys (
        name TEXT PRIMARY KEY,
        labels TEXT NOT NULL,
        models TEXT NOT NULL,
        max_concurrency INTEGER NOT NULL,
        created REAL NOT NULL,
        expires REAL,
        revoked REAL
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS key_digests (
        digest BLOB PRIMARY KEY,
        name TEXT NOT NULL,
        created REAL NOT NULL,
        expires REAL,
        last_used REAL
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS key_changes (number INTEGER NOT NULL)",
    "INSERT INTO key_changes SELECT 0 WHERE NOT EXISTS (SELECT * FROM key_changes)",
)
"""Additive: a later version adds statements, and changes none."""
