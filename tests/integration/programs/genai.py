"""The same as sdk.py for Google's own SDK: ``genai.py BASE_URL KEY CALLS``, to see an upstream as Google's users do."""

import json
import sys

from google import genai
from google.genai.errors import APIError


def call(client, what, parameters):
    """One call and what is worth knowing of its result."""
    if what == "generate":
        return told(client.models.generate_content(**parameters))
    if what == "stream":
        return {"chunks": [told(chunk) for chunk in client.models.generate_content_stream(**parameters)]}
    if what == "count":
        return {"total_tokens": client.models.count_tokens(**parameters).total_tokens}
    if what == "models":
        return {"names": [model.name for model in client.models.list()]}
    raise ValueError(what)


def told(response):
    (candidate,) = response.candidates
    return {
        "parts": [part.model_dump(mode="json", exclude_none=True) for part in candidate.content.parts],
        "finish": candidate.finish_reason and candidate.finish_reason.value,
        "tokens": response.usage_metadata and response.usage_metadata.total_token_count,
    }


def main(base_url, key, calls):
    client = genai.Client(api_key=key, http_options={"base_url": base_url, "api_version": "v1beta"})
    results = []
    for what, parameters in json.loads(calls):
        try:
            results.append(call(client, what, parameters))
        except APIError as error:
            results.append({"error": error.code, "status": error.status, "message": error.message})
    print(json.dumps(results))


main(*sys.argv[1:])
