"""One module a provider kind: its URLs, its authentication, its answers."""
