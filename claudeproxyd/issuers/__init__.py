"""Tokens that others issue: who may call by one, as whom, and where the keys are that prove it."""
