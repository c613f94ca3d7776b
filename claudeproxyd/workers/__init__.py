"""``server.workers``: several processes that are one daemon to everybody outside."""
