"""Where a credential's present secret comes from, and how it is refreshed."""
