"""The kind ``anthropic``: the Messages API itself, and everything that speaks it."""
