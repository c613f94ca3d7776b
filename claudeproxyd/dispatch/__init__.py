"""The life of one request: candidates, leases, attempts, outcomes, and the answer."""
