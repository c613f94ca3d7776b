"""Tokens that others issue."""
