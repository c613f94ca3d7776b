"""Bytes to frames and back, pure: server-sent events, content codings."""
