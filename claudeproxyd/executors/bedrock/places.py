"""Where on AWS a credential's models are, and how requests to them are signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from claudeproxyd.config.schema import Aws
from claudeproxyd.executors.bedrock.names import control_url, runtime_url
from claudeproxyd.secrets.aws_profiles import region_of
from claudeproxyd.secrets.sigv4 import Signer

if TYPE_CHECKING:
    from claudeproxyd.config.schema import CredentialSection
    from claudeproxyd.executors.bedrock.settings import BedrockCredential

ANYWHERE = "https://bedrock-runtime.us-east-1.amazonaws.com"
"""As a provider's ``base_url`` it stands for each credential's region."""

_SERVICE = "bedrock"


@dataclass(frozen=True, slots=True)
class AwsPlace:
    """The hosts of a region, and what signs requests to them. Made by :func:`place_of`."""

    region: str
    profile: str
    base_url: str
    control_url: str
    """'' where an operator's own host takes the place of AWS's: it may have no lists."""
    signer: Signer

    def authorization(
        self,
        secret: Mapping[str, str],
        method: str,
        host: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        now: float,
    ) -> bytes:
        """Return the header lines that say who asks; see :meth:`Signer.lines <claudeproxyd.secrets.sigv4.Signer>`."""
        key = secret.get("bearer_token") or secret.get("api_key")
        if key is not None:
            return b"authorization: Bearer %b\r\n" % key.encode()
        return self.signer.lines(secret, method, host, target, headers, body, now)


def place_of(credential: CredentialSection, base_url: str, environ: Mapping[str, str]) -> AwsPlace:
    """Return the place of a credential that ``BedrockMaker.check`` found no error in. *base_url* is the provider's."""
    own: BedrockCredential = credential.own
    region = region_for(credential, environ)
    anywhere = base_url == ANYWHERE
    return AwsPlace(
        region,
        own.inference_profile,
        runtime_url(region) if anywhere else base_url,
        control_url(region) if anywhere else "",
        Signer(region, _SERVICE),
    )


def region_for(credential: CredentialSection, environ: Mapping[str, str]) -> str:
    """Return a credential's region; '' if none is named anywhere. Reads the profiles of AWS's tools."""
    own: BedrockCredential = credential.own
    profile = credential.aws.profile if isinstance(credential.aws, Aws) else ""
    return own.region or region_of(environ, profile)
