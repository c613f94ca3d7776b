"""Claude to other protocols and back. Pure: bytes or values in, bytes or values out."""
