"""What translators for OpenAI's two protocols have in common."""
