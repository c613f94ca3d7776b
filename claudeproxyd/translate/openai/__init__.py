"""What chat completions and the Responses API have in common."""
