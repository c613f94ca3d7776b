"""The Claude wire format, pure: bytes and values in, bytes and values out."""
