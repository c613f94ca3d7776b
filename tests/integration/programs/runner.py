"""A program for the Python SDK's own environment: ``runner.py BASE_URL KEY STREAM PARAMETERS``, the SDK's tool runner.

Its tools are Read and Grep; what they find is named after what they look into. Prints the text of the last message.
"""

import json
import sys

import anthropic
from anthropic import beta_tool


@beta_tool
def Read(path: str) -> str:  # the model's name of it
    """Reads a file."""
    return f"contents of {path}"


@beta_tool
def Grep(path: str) -> str:
    """Searches a file."""
    return f"found in {path}"


def main(base_url, key, stream, parameters):
    client = anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0, timeout=60)
    runner = client.beta.messages.tool_runner(tools=[Read, Grep], stream=stream == "true", **json.loads(parameters))
    for each in runner:
        message = each.get_final_message() if stream == "true" else each
    print("".join(block.text for block in message.content if block.type == "text"))


main(*sys.argv[1:])
