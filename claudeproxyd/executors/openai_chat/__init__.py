"""OpenAI's Chat Completions API, and everything that speaks it: not built yet, its settings are reserved."""
