"""The pool of credentials: which one is next, which ones cool, and which requests wait."""
