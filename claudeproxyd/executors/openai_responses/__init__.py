"""OpenAI's Responses API: not built yet, its settings are reserved."""
