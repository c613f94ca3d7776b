"""The same as openai_sdk.py for the Responses API: ``openai_responses.py BASE_URL KEY CALLS``."""

import json
import sys

from openai import APIError, APIStatusError, OpenAI


def call(client, what, parameters):
    """One call and what is worth knowing of its result."""
    if what == "create":
        return told(client.responses.create(**parameters))
    if what == "stream":
        with client.responses.stream(**parameters) as stream:
            types = [event.type for event in stream]
            return {**told(stream.get_final_response()), "types": types}
    if what == "count":
        return {"input_tokens": client.responses.input_tokens.count(**parameters).input_tokens}
    if what == "models":
        return {"names": [model.id for model in client.models.list()]}
    raise ValueError(what)


def told(response):
    items = [item.model_dump(mode="json", exclude_none=True) for item in response.output]
    calls = [[item["call_id"], item["name"], json.loads(item["arguments"])] for item in items if "arguments" in item]
    sealed = [item["encrypted_content"] for item in items if item["type"] == "reasoning"]
    return {
        "text": response.output_text,
        "calls": calls,
        "sealed": sealed,
        "status": response.status,
        "tokens": response.usage.total_tokens,
    }


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
