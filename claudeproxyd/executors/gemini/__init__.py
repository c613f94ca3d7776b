"""Gemini's Developer API (https://ai.google.dev/api)."""
