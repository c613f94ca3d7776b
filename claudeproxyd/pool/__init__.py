"""Credentials: which one is next, which ones rest, and who waits."""
