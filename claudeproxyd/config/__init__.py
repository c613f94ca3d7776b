"""What the operator says: schema, loading, secrets, checking, reload."""
