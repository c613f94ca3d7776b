"""A module or a package for each provider kind: its URLs, its authentication, its answers."""
