"""The same as sdk.py for OpenAI's own SDK: ``openai_sdk.py BASE_URL KEY CALLS``, to see an upstream as its users do."""

import json
import sys

from openai import APIError, APIStatusError, OpenAI


def call(client, what, parameters):
    """One call and what is worth knowing of its result."""
    if what == "create":
        made = client.chat.completions.create(**parameters)
        return told(made.choices[0].message, made.choices[0].finish_reason, made.usage)
    if what == "stream":
        with client.chat.completions.stream(**parameters, stream_options={"include_usage": True}) as stream:
            for _ in stream:
                pass
            made = stream.get_final_completion()
        return told(made.choices[0].message, made.choices[0].finish_reason, made.usage)
    if what == "models":
        return {"names": [model.id for model in client.models.list()]}
    raise ValueError(what)


def told(message, finish, usage):
    calls = [[call.id, call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls or ()]
    return {"text": message.content, "calls": calls, "finish": finish, "tokens": usage.total_tokens}


def main(base_url, key, calls):
    client = OpenAI(api_key=key, base_url=base_url, max_retries=0)
    results = []
    for what, parameters in json.loads(calls):
        try:
            results.append(call(client, what, parameters))
        except APIStatusError as error:
            results.append({"error": error.status_code, "code": error.code, "message": error.message})
        except APIError as error:
            results.append({"error": 0, "code": error.code, "message": error.message})
    print(json.dumps(results))


main(*sys.argv[1:])
