"""A provider kind that needs no upstream: scripted answers and failures, for trying clients and for tests."""
