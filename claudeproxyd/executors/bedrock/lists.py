"""The models that Bedrock lists, in one of its regions."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from claudeproxyd.executors.http import MAX_PAGES, HTTPExecutor
from claudeproxyd.outcomes.types import Family

if TYPE_CHECKING:
    from claudeproxyd.executors.bedrock.places import AwsPlace
    from claudeproxyd.headers import Headers
    from claudeproxyd.leases import Credential

_PROFILES = "/inference-profiles?maxResults=1000"
_MODELS = "/foundation-models?byInferenceType=ON_DEMAND&byOutputModality=TEXT"


class _Profile(msgspec.Struct, rename="camel"):
    inference_profile_id: str
    inference_profile_name: str = ""
    status: str = "ACTIVE"


class _Profiles(msgspec.Struct, rename="camel"):
    inference_profile_summaries: list[_Profile] = []
    next_token: str | None = None


class _Lifecycle(msgspec.Struct):
    status: str = "ACTIVE"


class _Model(msgspec.Struct, rename="camel"):
    model_id: str
    model_name: str = ""
    model_lifecycle: _Lifecycle = msgspec.field(default_factory=_Lifecycle)


class _Models(msgspec.Struct, rename="camel"):
    model_summaries: list[_Model] = []


_decode_profiles = msgspec.json.Decoder(_Profiles).decode
_decode_models = msgspec.json.Decoder(_Models).decode


class Lists(HTTPExecutor):
    """Asks for inference profiles, which nearly all models of today are served by, and for the models without one."""

    kind = "bedrock"
    family = Family.BEDROCK

    async def models(self, credential: Credential, place: AwsPlace) -> list[dict[str, object]]:
        """Return the entries of all that can be asked for. Fails with AttemptFailed and UpstreamError."""
        secret = credential.source.present() or await credential.source.refresh()

        async def get(target: str) -> bytes:
            lines = place.authorization(secret, "GET", self.origin.authority, target, (), b"", self.services.now())
            return await self._get(target.encode(), lines)

        listed: dict[str, dict[str, object]] = {}
        after = ""
        for _ in range(MAX_PAGES):
            page = _decode_profiles(await get(_PROFILES + after))
            for profile in page.inference_profile_summaries:
                if profile.status == "ACTIVE":
                    name = profile.inference_profile_id
                    listed[name] = _entry(name, profile.inference_profile_name)
            if not page.next_token:
                break
            after = f"&nextToken={quote(page.next_token, safe='')}"
        for model in _decode_models(await get(_MODELS)).model_summaries:
            if model.model_lifecycle.status == "ACTIVE":
                listed.setdefault(model.model_id, _entry(model.model_id, model.model_name))
        return list(listed.values())

    def client_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """None: no client gets an answer of these."""
        return []


def _entry(name: str, shown: str) -> dict[str, object]:
    return {"id": name, "display_name": shown or name}
