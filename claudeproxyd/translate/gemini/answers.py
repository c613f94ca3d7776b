"""Gemini's answers as Claude messages, streamed and whole."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec
from zope.interface import implementer

from claudeproxyd.errors import shown
from claudeproxyd.framing.elements import ElementSplitter
from claudeproxyd.framing.sse import FrameSplitter
from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.messages.reader import MalformedAnswer, ModelFault
from claudeproxyd.outcomes.types import Family
from claudeproxyd.translate.answer_reader import EventReader, NoEvent
from claudeproxyd.translate.gemini.finish import UNFINISHED, ending_of, ending_of_blocked, is_known
from claudeproxyd.translate.gemini.grounding import GroundingSources
from claudeproxyd.translate.gemini.loose import read_loosely
from claudeproxyd.translate.gemini.partial_args import PartialCall
from claudeproxyd.translate.gemini.responses import DECODER, Counts, GenerateContentResponse, decode_all, is_there

if TYPE_CHECKING:
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.messages.usage import Usage
    from claudeproxyd.translate.gemini.requests import GeminiRequest
    from claudeproxyd.translate.gemini.responses import AnswerCandidate, AnswerPart, FunctionCall
    from claudeproxyd.translate.signatures import Signatures

FAMILY = Family.GOOGLE

#: Characters of a text that are kept for its signature and its sources; no model's answers are as long.
MAX_TEXT_CHARS = 1024 * 1024

#: Data of frames that need not be read.
_NOTHING = (b"", b"[DONE]")


@implementer(IStreamReader)
class GeminiReader(EventReader[GenerateContentResponse]):
    """Reads one answer: server-sent events or a JSON array, told apart by the first byte.
    A ``finishReason`` says how the answer ends, but only the body's end that it does: Google itself has sent one with
    every chunk, and sends one after each round of its own tools; others send one ahead of all content. To wait costs
    nothing, as Google ends the body with the last chunk, and as its own clients all wait. A body that breaks off is
    truncated, whatever was said before.
    """

    _decoder = DECODER

    def __init__(
        self,
        machine: BlockMachine,
        request: GeminiRequest,
        signatures: Signatures,
        max_event_bytes: int,
        *,
        last: bool = False,
    ) -> None:
        """*machine*, of the family :data:`FAMILY`, makes the message.

        *last*: the request will not be repeated, so that an answer without content is better than none.
        """
        super().__init__(machine, request, max_event_bytes)
        self._names = request.names
        self._digest = request.digest
        self._signatures = signatures
        self._last = last
        self._sources = GroundingSources(FAMILY)
        self._text: list[str] = []
        """Of the text block that is open: its signature and its sources come at its end."""
        self._text_room = MAX_TEXT_CHARS
        self._text_signature = ""
        self._called = False
        self._unsigned_call = ""
        """The id of the first call, while it has no signature. Of parallel calls only the first has one."""
        self._partial: PartialCall | None = None
        self._counts = Counts()
        """As last counted, each figure by itself."""
        self._reason_message = ""
        self._blocked = False

    def _framing(self, data: bytes) -> FrameSplitter | ElementSplitter:
        return (ElementSplitter if data.startswith((b"[", b"{")) else FrameSplitter)(self._limit)

    # -- one response

    def _take_odd(self, name: bytes, data: bytes) -> bytes | None:
        if data in _NOTHING:
            return None
        try:
            if data.startswith(b"["):
                responses, anomaly = decode_all(data), ""
            else:
                response, anomaly = read_loosely(data)
                responses = [response]
        except UNREADABLE as e:
            raise NoEvent(f"no answer of Gemini's: {e}") from None
        self._note(anomaly)
        error = None
        for response in responses:
            if error is None and not self._over:
                error = self._take(response, name, data)
        return error

    def _take(self, event: GenerateContentResponse, name: bytes, data: bytes) -> bytes | None:
        if event.error and is_there(event.error):
            return b'{"error":%b}' % bytes(event.error)
        if event.response_id:
            self.request_id = event.response_id
        if event.usage_metadata is not None:
            self._count(event.usage_metadata)
            if not self.content:  # what is known goes out with the first of it, and else at the end
                self._tell_usage()
        for candidate in event.candidates or ():
            if candidate.index and candidate.index > 0:
                self._note("more than one candidate")
                continue
            if candidate.content is not None and candidate.content.parts:
                for part in candidate.content.parts:
                    if part.text and not (part.thought or part.thought_signature or part.function_call):
                        self._say(part.text)  # nearly always
                    else:
                        self._part(part)
            if candidate.grounding_metadata or candidate.citation_metadata:
                self._source(candidate)
            if candidate.finish_reason is not None and candidate.finish_reason not in UNFINISHED:
                self._ends(candidate.finish_reason, candidate.finish_message)
        feedback = event.prompt_feedback
        if feedback is not None and feedback.block_reason is not None and feedback.block_reason not in UNFINISHED:
            self._blocked = True
            self._ends(feedback.block_reason, feedback.block_reason_message)
        if self._may_stop and self._machine.stopped:
            self._finish()
        return None

    def _ends(self, reason: str, message: str | None) -> None:
        if reason != "STOP" or not self._reason:  # some say STOP for want of another word: it unsays nothing
            self._reason, self._reason_message = reason, message or ""

    def _count(self, counts: Counts) -> None:
        """Take over what a chunk counts; what it leaves out is as it was."""
        known = self._counts
        if counts.prompt_token_count is not None:
            known.prompt_token_count = counts.prompt_token_count
        if counts.cached_content_token_count is not None:
            known.cached_content_token_count = counts.cached_content_token_count
        if counts.tool_use_prompt_token_count is not None:
            known.tool_use_prompt_token_count = counts.tool_use_prompt_token_count
        if counts.candidates_token_count is not None:
            known.candidates_token_count = counts.candidates_token_count
        if counts.thoughts_token_count is not None:
            known.thoughts_token_count = counts.thoughts_token_count
        if counts.total_token_count is not None:
            known.total_token_count = counts.total_token_count

    @property
    def usage(self) -> Usage:
        """As upstream counted; estimated where the answer was truncated before it did."""
        self._tell_usage()
        return super().usage

    def _tell_usage(self) -> None:
        """Say in Claude's terms what is counted."""
        usage, counts = self._machine.usage, self._counts
        usage.cache_read, usage.thinking = counts.cached_content_token_count, counts.thoughts_token_count
        prompt, answer = counts.prompt_token_count, counts.candidates_token_count
        from_tools = counts.tool_use_prompt_token_count or 0
        if prompt is not None:
            usage.input = max(0, prompt - (usage.cache_read or 0)) + from_tools
            usage.guessed_input = None
        if answer is not None:
            # Some count the thoughts within the answer: only so do prompt and answer add up.
            within = prompt is not None and counts.total_token_count == prompt + from_tools + answer
            usage.output = answer + (0 if within else usage.thinking or 0)
            usage.estimated = False

    def _source(self, candidate: AnswerCandidate) -> None:
        try:
            if is_there(candidate.grounding_metadata):
                self._sources.add_grounding(candidate.grounding_metadata)
            if is_there(candidate.citation_metadata):
                self._sources.add_citations(candidate.citation_metadata)
        except UNREADABLE as e:
            self._note(f"sources left out: {e}")

    def _finish(self) -> None:
        self._over = True
        if self._partial is not None:
            self._end_partial()
        self._sources.tell(self._machine, "".join(self._text))
        self._end_text()
        self._tell_usage()
        usage, reason = self._machine.usage, self._reason or ""
        if usage.output is None:
            usage.output = usage.thinking  # the answer did not get beyond thoughts
        if self._machine.stopped:
            self._machine.finish("stop_sequence")
        elif self._blocked:
            self._machine.finish(*ending_of_blocked(reason, self._reason_message))
        else:
            if reason == "STOP" and not (self._answered or self.content or self._last):
                raise ModelFault("STOP without any content")
            if not is_known(reason):
                self._note(f"unknown finishReason {shown(reason)}")
            self._machine.finish(*ending_of(reason, self._reason_message, self._answered))

    # -- one part

    def _part(self, part: AnswerPart) -> None:
        text = part.text
        if part.function_call is not None:
            self._call(part.function_call, part.thought_signature)
        elif part.thought:
            self._think(text or "", part.thought_signature)
        elif text is None or part.thought_signature is not None:
            self._other(part)

    def _say(self, text: str) -> None:
        if self._text_signature:  # what is signed ends there, and is to come back by itself
            self._end_text()
            self._machine.close()
        self._machine.text(text)
        self._text.append(text)
        self._text_room -= len(text)
        if self._text_room < 0:
            self._text.pop()
        self._answered = True

    def _sign_text(self, signature: str) -> None:
        if self._text:
            self._text_signature = signature
        elif self._unsigned_call:  # streamed calls may be signed after the fact
            self._signatures.keep(self._unsigned_call, signature)
            self._unsigned_call = ""
        else:
            self._sign(signature)

    def _think(self, text: str, signature: str | None) -> None:
        self._progress = True
        if text and self._shows:
            if self._text_room < MAX_TEXT_CHARS:
                self._end_text()
            self._machine.thinking(text)
        if signature:
            self._sign(signature)

    def _sign(self, signature: str) -> None:
        """Let a thinking block carry it: the open one, or else an empty one."""
        if not self._thinks:
            return
        try:
            standard = signature.replace("-", "+").replace("_", "/")
            payload = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
        except ValueError:  # binascii.Error is one, and letters beyond ASCII are
            self._note("a thoughtSignature that is not base64")
            return
        self._end_text()
        self._machine.signature(mint_signature(FAMILY, payload))

    def _call(self, call: FunctionCall, signature: str | None) -> None:
        comes_in_pieces = is_there(call.partial_args)
        if self._partial is not None and call.name:
            self._end_partial()
        if self._partial is None:
            if not (call.will_continue or comes_in_pieces):
                # Google indents what it does not stream; apart from that the input stays as the model wrote it.
                args = msgspec.json.format(call.args, indent=-1).decode() if is_there(call.args) else "{}"
                self._tool(call.name, args, call.id, signature)
                return
            self._partial = PartialCall(call.name or "", call.id, self._limit)
        self._partial.signature = self._partial.signature or signature
        if comes_in_pieces:
            self._partial.add(call.partial_args)
        if not call.will_continue:
            self._end_partial()

    def _end_partial(self) -> None:
        partial, self._partial = self._partial, None
        assert partial is not None
        self._tool(partial.name, partial.args(), partial.id, partial.signature)

    def _tool(self, name: str | None, args: str, id: str | None, signature: str | None) -> None:
        if not name:
            raise MalformedAnswer("a function call without a name")
        self._end_text()
        if signature:
            self._sign(signature)
        if id is not None and (id in self._digest.calls or self._signatures.lookup(id)):
            id = None  # some count their calls anew in every answer
        id = self._machine.tool_call(self._names.client(name), args, id)
        if signature:
            self._signatures.keep(id, signature)
        elif not self._called:
            self._unsigned_call = id
        self._called = self._answered = True

    def _other(self, part: AnswerPart) -> None:
        """Read a part that is neither a call, nor a thought, nor text alone: code becomes Markdown, a file is
        described."""
        if is_there(part.tool_call) or is_there(part.tool_response):
            if self._sources.add_search(part, self._machine):
                self._end_text()
            return
        code, result = part.executable_code, part.code_execution_result
        file = part.inline_data or part.file_data
        if part.text:
            self._say(part.text)
        elif code is not None:
            self._say(f"```{(code.language or '').lower()}\n{code.code or ''}\n```\n")
        elif result is not None:
            self._say(f"```\n{result.output or ''}\n```\n")
        elif file is not None:
            self._say(file.description)
        elif part.thought_signature is None:
            self._note("a part of no known kind was left out")
        if part.thought_signature:
            self._sign_text(part.thought_signature)

    def _end_text(self) -> None:
        """The text block is whole: what comes next is another one."""
        if self._text_signature and self._text_room >= 0 and not self._machine.stopped:
            self._signatures.keep(self._digest.key("".join(self._text)), self._text_signature)
        self._text.clear()
        self._text_room = MAX_TEXT_CHARS
        self._text_signature = ""
