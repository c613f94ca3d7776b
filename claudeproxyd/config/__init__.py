"""The configuration: schema, loading, secrets, checking, reload."""
