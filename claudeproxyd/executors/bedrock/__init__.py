"""Models on Amazon Bedrock: Claude's by InvokeModel, all others by Converse."""
