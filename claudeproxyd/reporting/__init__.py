"""What the daemon reports to others by itself: spans to a collector, events to webhooks. Nothing waits for it."""
