"""Who used what, and what it cost: prices, and the ledger that outlives the daemon."""
