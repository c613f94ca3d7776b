"""Claude's models on Amazon Bedrock: not built yet, its settings are reserved."""
