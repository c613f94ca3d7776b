"""What the executors of OpenAI's protocols have in common: a filter's refusal of a prompt, which comes as a 400."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from claudeproxyd.executors.translating import TranslatingExecutor
from claudeproxyd.outcomes.bodies import read_error
from claudeproxyd.outcomes.types import AttemptFailed, Family
from claudeproxyd.translate.openai.words import refusal
from claudeproxyd.translate.prepared import TranslatedRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claudeproxyd.dispatch.attempt import Attempt
    from claudeproxyd.interfaces import IBufferedResponse, IStreamingResponse

#: What such a filter is called, by Azure and by OpenAI.
_FILTERS = frozenset(("content_filter", "ResponsibleAIPolicyViolation", "content_policy_violation"))

Translated = TypeVar("Translated", bound=TranslatedRequest)


class OpenAIExecutor(TranslatingExecutor[Translated]):
    """The base of the executors of one server that speaks one of them."""

    family = Family.OPENAI

    async def messages(self, attempt: Attempt) -> IBufferedResponse | IStreamingResponse:
        """See :meth:`IExecutor.messages <claudeproxyd.interfaces.IExecutor.messages>`.

        A prompt that a filter has refused is answered as an answer that it stops: by a refusal.
        """
        try:
            return await super().messages(attempt)
        except AttemptFailed as failure:
            answer = failure.answer
            if answer is None or answer.status != 400:
                raise
            error = read_error(answer.body, self.family)
            if not error.names & _FILTERS:
                raise
            return self.ended_here(attempt, await self.translated(attempt), "refusal", refusal(error.message))

    def authorization(self, secret: Mapping[str, str], *, by_own_header: bool) -> bytes:
        """Return the header line that says who asks. *by_own_header*: of a key, as Azure has it."""
        key = secret.get("api_key")
        if key is not None and by_own_header:
            return b"api-key: %b\r\n" % key.encode()
        return b"authorization: Bearer %b\r\n" % (secret["bearer_token"] if key is None else key).encode()
