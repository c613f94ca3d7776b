"""OpenAI's Chat Completions API, and everything that speaks it."""
