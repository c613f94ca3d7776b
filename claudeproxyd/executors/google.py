"""Who asks, as Google's APIs have it."""

from __future__ import annotations

from collections.abc import Mapping

_USER_PROJECT = "x-goog-user-project"


def authorization(secret: Mapping[str, str], own: Mapping[str, str]) -> bytes:
    """The header lines for an API key or a token; a user's token says which project is charged.

    *own* are the operator's headers, which say it in their place.
    """
    key = secret.get("api_key")
    if key is not None:
        return b"x-goog-api-key: %b\r\n" % key.encode()
    lines = b"authorization: Bearer %b\r\n" % secret["bearer_token"].encode()
    project = secret.get("quota_project")
    if project and not any(name.lower() == _USER_PROJECT for name in own):
        lines += f"{_USER_PROJECT}: {project}\r\n".encode()
    return lines
