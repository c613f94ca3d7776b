"""Gemini's API (https://ai.google.dev/api/generate-content), on the Developer API and on Vertex AI."""
