"""One Claude-compatible API in front of a pool of credentials over many upstream APIs."""

__version__ = "0.1.0"
