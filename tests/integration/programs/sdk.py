"""A program for the Python SDK's own environment: ``sdk.py BASE_URL KEY CALLS [RETRIES [SECRET]]``.

It prints what the calls brought. With *SECRET* it is the client of Claude in Microsoft Foundry: ``key``, or ``token``
for one of Entra ID. *CALLS* is a JSON list of ``[what, parameters]``; what is printed is one with an object for each.
"""

import json
import sys

import anthropic


def call(client, what, parameters):
    """One call and what is worth knowing of its result."""
    if what == "create":
        message = client.messages.create(**parameters)
        return {"text": text_of(message), "stop_reason": message.stop_reason, "request_id": message._request_id}
    if what == "stream":
        with client.messages.stream(**parameters) as stream:
            types = [event.type for event in stream]
            message = stream.get_final_message()
        return {"text": text_of(message), "stop_reason": message.stop_reason, "types": types}
    if what == "events":
        return {"types": [event.type for event in client.messages.create(stream=True, **parameters)]}
    if what == "count_tokens":
        return {"input_tokens": client.messages.count_tokens(**parameters).input_tokens}
    if what == "models":
        return {"ids": [model.id for model in client.models.list()]}
    if what == "loop":
        return {"turns": list(loop(client, **parameters))}
    raise ValueError(what)


def loop(client, messages, results, **parameters):
    """Stream turn after turn, for each tool call its result of *results*, until there is none."""
    while True:
        with client.messages.stream(messages=messages, **parameters) as stream:
            message = stream.get_final_message()
        yield {"content": [block.model_dump(mode="json") for block in message.content], "stop": message.stop_reason}
        calls = [block for block in message.content if block.type == "tool_use"]
        if not calls:
            return
        told = [{"type": "tool_result", "tool_use_id": each.id, "content": results[each.name]} for each in calls]
        said = [{"role": "assistant", "content": message.content}, {"role": "user", "content": told}]
        messages = [*messages, *said]


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def client_of(base_url, key, retries, foundry):
    options = {"base_url": base_url, "max_retries": retries, "timeout": 60}
    if foundry:
        secret = {"api_key": key} if foundry == "key" else {"azure_ad_token_provider": lambda: key}
        return anthropic.AnthropicFoundry(**options, **secret)
    return anthropic.Anthropic(api_key=key, **options)


def main(base_url, key, calls, retries="0", foundry=""):
    client = client_of(base_url, key, int(retries), foundry)
    results = []
    for what, parameters in json.loads(calls):
        try:
            results.append(call(client, what, parameters))
        except Exception as error:
            body = getattr(error, "body", None)
            inner = body.get("error", {}) if isinstance(body, dict) else {}
            told = {"status": getattr(error, "status_code", None), "type": inner.get("type"), "message": str(error)}
            results.append({"error": type(error).__name__, **told})
    print(json.dumps(results))


main(*sys.argv[1:])
