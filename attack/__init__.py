"""Hostile inputs against a daemon that runs: ``make attack ARGS="http://127.0.0.1:8765 --key … --pid …"``.

Each attack is told to last a few seconds, while another process asks for ``/healthz``; what is looked at is how long
those healthy requests took, what the attack was answered, and what the daemon's memory was before and after. Loopback
alone, and bounded in count and time.
"""
