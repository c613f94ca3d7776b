"""An OpenID Connect issuer on loopback: it publishes its keys, and signs tokens."""

from __future__ import annotations

import json
import time
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey
from twisted.web.server import Request

from tests.integration.support.loopback import LoopbackServer

AUDIENCE = "claudeproxyd"


class Issuer(LoopbackServer):
    """It has a key with the id "1"; a test adds more, takes some out, or has it break. Its tokens have its URL."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = {"1": ECKey.generate_key("P-256")}
        self.status = 200
        self.asked: list[str] = []

    def section(self, more: str = "") -> str:
        """How a daemon is told of it."""
        return f'[[issuers]]\nurl = "{self.url}"\naudience = "{AUDIENCE}"\n{more}\n'

    def rotate(self, kid: str) -> None:
        """Publish one more key, which is signed with from now on."""
        self.keys[kid] = ECKey.generate_key("P-256")

    def token(self, sub: str = "ann", kid: str | None = None, lifetime: float = 3600.0, **claims: Any) -> str:
        """A token, signed with the newest key."""
        kid = kid or list(self.keys)[-1]
        said = {"iss": self.url, "aud": AUDIENCE, "sub": sub, "exp": int(time.time() + lifetime), **claims}
        return jwt.encode({"alg": "ES256", "kid": kid}, said, self.keys[kid])

    def render_GET(self, request: Request) -> bytes:
        """Its discovery document and its keys."""
        path = request.path.decode()
        self.asked.append(path)
        request.setResponseCode(self.status)
        if path == "/.well-known/openid-configuration":
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        keys = [{**key.as_dict(private=False), "kid": kid, "use": "sig"} for kid, key in self.keys.items()]
        return json.dumps({"keys": keys}).encode()
