"""What the parts of a provider's executor have in common that ask Bedrock's runtime, each in one of its regions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from claudeproxyd.executors.bedrock.dialect import MAX_BODY_BYTES
from claudeproxyd.executors.bedrock.names import model_id
from claudeproxyd.executors.http import HTTPExecutor
from claudeproxyd.executors.judge import InputTooLongJudge
from claudeproxyd.messages.headers import value_of
from claudeproxyd.outcomes.types import AttemptPhase, ErrorResponse, Family

if TYPE_CHECKING:
    from claudeproxyd.config.schema import Provider
    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.executors.bedrock.places import AwsPlace
    from claudeproxyd.executors.services import Services
    from claudeproxyd.headers import Headers
    from claudeproxyd.upstream.client import Response

_JSON = (b"content-type", b"application/json")


class BedrockRuntime(HTTPExecutor):
    """The base of these parts: signs what they ask."""

    kind = "bedrock"
    family = Family.BEDROCK
    make_judge = InputTooLongJudge
    request_id_headers = (b"x-amzn-requestid",)

    def __init__(self, section: Provider, services: Services, places: Mapping[str, AwsPlace]) -> None:
        """*places*: where each credential's models are."""
        super().__init__(section, services)
        self._places = places
        self._signed = [(name, value) for name, value in section.headers.items() if name.lower().startswith("x-amz-")]

    def client_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """The request's id alone: what else AWS sends is about AWS."""
        request_id = value_of(headers, self.request_id_headers[0])
        return [_JSON, (b"request-id", request_id)] if request_id else [_JSON]

    async def invoke(self, attempt: Attempt, operation: str, body: bytes, *, streamed: bool) -> Response:
        """Send *body* to the attempt's model. Raises as :meth:`send` does."""
        if len(body) > MAX_BODY_BYTES:
            message = f"The request exceeds the {MAX_BODY_BYTES:,} bytes that Bedrock takes"
            raise self.judge.failed(
                attempt,
                phase=AttemptPhase.CONNECT,
                status=413,
                body=message.encode(),
                answer=ErrorResponse(413, [_JSON], b"", message=message),
            )
        place = self._places[attempt.credential.name]
        model = quote(model_id(attempt.route.model, place.region, place.profile), safe="")
        target = f"{self.origin.base_path.decode()}/model/{model}/{operation}"
        client = attempt.request.principal.name
        signed = [("content-type", "application/json")]
        signed += [(name, value.replace("{client}", client)) for name, value in self._signed]
        lines = place.authorization(
            attempt.secret, "POST", self.origin.authority, target, signed, body, self.services.now()
        )
        return await self.send(attempt, target.encode(), lines, body, streamed=streamed)
