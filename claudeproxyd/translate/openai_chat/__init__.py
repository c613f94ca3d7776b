"""OpenAI's Chat Completions (https://platform.openai.com/docs/api-reference/chat), as everybody speaks it."""
