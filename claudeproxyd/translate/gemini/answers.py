"""Gemini's answers as Claude messages, streamed and whole."""

from __future__ import annotations

import base64
from codecs import BOM_UTF8
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from zope.interface import implementer

from claudeproxyd.framing.elements import ElementSplitter
from claudeproxyd.framing.sse import FrameSplitter
from claudeproxyd.interfaces import IStreamReader
from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.block import BlockError
from claudeproxyd.messages.frame import read_frame
from claudeproxyd.messages.ids import mint_signature
from claudeproxyd.messages.reader import ErrorAnswer, MalformedAnswer, ModelFault
from claudeproxyd.outcomes.types import Family
from claudeproxyd.translate.gemini.finish import UNFINISHED, ending_of, ending_of_blocked, is_known
from claudeproxyd.translate.gemini.grounding import GroundingSources
from claudeproxyd.translate.gemini.loose import read_loosely
from claudeproxyd.translate.gemini.partial_args import PartialCall
from claudeproxyd.translate.gemini.responses import GenerateContentResponse, decode, is_count, is_there

if TYPE_CHECKING:
    from claudeproxyd.messages.batch import Batch
    from claudeproxyd.messages.blocks import BlockMachine
    from claudeproxyd.messages.usage import Usage
    from claudeproxyd.translate.gemini.requests import GeminiRequest
    from claudeproxyd.translate.gemini.responses import AnswerCandidate, AnswerPart, Counts, FunctionCall
    from claudeproxyd.translate.signatures import Signatures

FAMILY = Family.GOOGLE

#: Characters of a text that are kept for its signature and its sources; no model's answers are as long.
MAX_TEXT_CHARS = 1024 * 1024

#: Data of frames that need not be read.
_NOTHING = (b"", b"[DONE]")


class NoResponse(MalformedAnswer):
    """Bytes that are no GenerateContentResponse."""


@implementer(IStreamReader)
class GeminiReader:
    """Reads one answer: server-sent events or a JSON array, told apart by the first byte.
    A ``finishReason`` says how the answer ends, but only the body's end that it does: Google itself has sent one with
    every chunk, and sends one after each round of its own tools; others send one ahead of all content. To wait costs
    nothing, as Google ends the body with the last chunk, and as its own clients all wait. A body that breaks off is
    truncated, whatever was said before.
    """

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
        self.anomaly = ""
        self.request_id = ""
        self._machine = machine
        self._names = request.names
        self._digest = request.digest
        self._thinks = request.thinks
        self._shows = request.thinks and request.shows
        self._may_stop = bool(request.stop_sequences)
        self._signatures = signatures
        self._limit = max_event_bytes
        self._last = last
        self.content = False
        """The client may have some of the answer."""
        self._splitter: FrameSplitter | ElementSplitter | None = None
        self._sources = GroundingSources(FAMILY)
        self._text: list[str] = []
        """Of the text block that is open: its signature and its sources come at its end."""
        self._text_room = MAX_TEXT_CHARS
        self._text_signature = ""
        self._answered = False
        """There is text or a call: more than thoughts."""
        self._called = False
        self._unsigned_call = ""
        """The id of the first call, while it has no signature. Of parallel calls only the first has one."""
        self._partial: PartialCall | None = None
        self._prompt: int | None = None
        self._from_tools = 0
        self._candidate: int | None = None
        self._total: int | None = None
        """Tokens, as last counted: of the prompt with what is cached of it, of tools' results, of the answer alone (or
        with its thoughts), of all together."""
        self._reason = ""
        """finishReason or blockReason, once there is one."""
        self._reason_message = ""
        self._blocked = False
        self._over = False
        """The message is finished; nothing more is read."""

    @property
    def usage(self) -> Usage:
        """As upstream counted; estimated where the answer was truncated before it did."""
        if self._machine.stop_reason is None:
            self._machine.estimate_usage()
        return self._machine.usage

    @property
    def stop_reason(self) -> str | None:
        """Claude's, at the end."""
        return self._machine.stop_reason

    @property
    def unfinished(self) -> int:
        """Bytes of a frame whose end has not come."""
        return self._splitter.unfinished if self._splitter is not None else 0

    def feed(self, data: bytes) -> Batch:
        """See :meth:`~claudeproxyd.interfaces.IStreamReader.feed`."""
        splitter = self._splitter
        if splitter is None:
            data = data.lstrip()
            if not data:
                return self._batch(None)
            of_array = data.startswith((b"[", b"{"))
            splitter = self._splitter = (ElementSplitter if of_array else FrameSplitter)(self._limit)
        return self._batch(self.read(splitter.feed(data)))

    def end(self) -> Batch:
        """See :meth:`~claudeproxyd.interfaces.IStreamReader.end`."""
        error = None
        if isinstance(self._splitter, FrameSplitter):
            try:
                error = self.read(self._splitter.feed(b"\n\n"))  # its last empty line may be missing
            except NoResponse:
                return self._batch(None)  # half of its last frame is: it was truncated
        elif self.unfinished:
            return self._batch(None)
        if error is None and self._reason and not self._over:
            self._finish()
        return self._batch(error)

    def read(self, frames: Sequence[bytes]) -> bytes | None:
        """Read frames. Return the error that is among them, behind which nothing is read; or None.

        Raises :class:`~claudeproxyd.messages.reader.MalformedAnswer` and
        :class:`~claudeproxyd.messages.reader.ModelFault`.
        """
        for frame in frames:
            if self._over:
                break
            if frame.startswith(b"data: ") and b"\n" not in frame:
                data = frame[6:]
            elif frame.startswith((b"{", b"[")):  # an element, or an error that Google has put between its events
                data = frame
            else:
                data = read_frame(frame)[1]
            try:
                decoded = decode(data)
            except UNREADABLE:
                if data in _NOTHING:
                    continue
                decoded = self._read_loosely(data)
            error = (
                self._respond(decoded)
                if isinstance(decoded, GenerateContentResponse)
                else self._respond_to_all(decoded)
            )
            if error is not None:
                return error
        return None

    def _batch(self, error: bytes | None) -> Batch:
        batch = self._machine.flush()
        batch.error = error
        self.content = self.content or batch.content
        return batch

    def _note(self, anomaly: str) -> None:
        self.anomaly = self.anomaly or anomaly

    # -- one response

    def _read_loosely(self, data: bytes) -> GenerateContentResponse:
        try:
            response, anomaly = read_loosely(data)
        except UNREADABLE as e:
            raise NoResponse(f"no answer of Gemini's: {e}") from None
        self._note(anomaly)
        return response

    def _respond_to_all(self, responses: list[GenerateContentResponse]) -> bytes | None:
        for response in responses:
            if self._over:
                break
            if (error := self._respond(response)) is not None:
                return error
        return None

    def _respond(self, response: GenerateContentResponse) -> bytes | None:
        """Read one response. Return the error that has come in its place, or None."""
        if response.error and is_there(response.error):
            return b'{"error":%b}' % bytes(response.error)
        if response.response_id:
            self.request_id = response.response_id
        counts = response.usage_metadata
        if counts is not None:
            self._count(counts)
        try:
            for candidate in response.candidates or ():
                if candidate.index and candidate.index > 0:
                    self._note("more than one candidate")
                    continue
                if candidate.content is not None and candidate.content.parts:
                    for part in candidate.content.parts:
                        self._part(part)
                if candidate.grounding_metadata or candidate.citation_metadata:
                    self._source(candidate)
                if candidate.finish_reason is not None and candidate.finish_reason not in UNFINISHED:
                    self._ends(candidate.finish_reason, candidate.finish_message)
        except (BlockError, *UNREADABLE) as e:
            raise MalformedAnswer(str(e)) from None
        feedback = response.prompt_feedback
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
        """Take over what a chunk counts; what it leaves out, or cannot mean, is as it was."""
        usage = self._machine.usage
        if is_count(counts.cached_content_token_count):
            usage.cache_read = counts.cached_content_token_count
        if is_count(counts.thoughts_token_count):
            usage.thinking = counts.thoughts_token_count
        if is_count(counts.tool_use_prompt_token_count):
            self._from_tools = counts.tool_use_prompt_token_count
        if is_count(counts.prompt_token_count):
            self._prompt = counts.prompt_token_count
        if is_count(counts.candidates_token_count):
            self._candidate = counts.candidates_token_count
        if is_count(counts.total_token_count):
            self._total = counts.total_token_count
        if self._prompt is not None:
            usage.input = max(0, self._prompt - (usage.cache_read or 0)) + self._from_tools
        if self._candidate is not None:
            usage.output = self._candidate + (0 if self._counts_thoughts_within() else usage.thinking or 0)
            usage.estimated = False

    def _counts_thoughts_within(self) -> bool:
        """Whether the answer's tokens include its thoughts, as some say: only so do prompt and answer add up."""
        if self._total is None or self._prompt is None or self._candidate is None:
            return False
        return self._total == self._prompt + self._from_tools + self._candidate

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
        try:
            if self._partial is not None:
                self._end_partial()
            self._sources.tell(self._machine, "".join(self._text))
            self._end_text()
            usage = self._machine.usage
            if usage.output is None:
                usage.output = usage.thinking  # the answer did not get beyond thoughts
            if self._machine.stopped:
                self._machine.finish("stop_sequence")
            elif self._blocked:
                self._machine.finish(*ending_of_blocked(self._reason, self._reason_message))
            else:
                if self._reason == "STOP" and not (self._answered or self.content or self._last):
                    raise ModelFault("STOP without any content")
                if not is_known(self._reason):
                    self._note(f"unknown finishReason {self._reason:.50}")
                self._machine.finish(*ending_of(self._reason, self._reason_message, self._answered))
        except (BlockError, RecursionError) as e:
            raise MalformedAnswer(str(e)) from None

    # -- one part

    def _part(self, part: AnswerPart) -> None:
        text = part.text
        if part.function_call is not None:
            self._call(part.function_call, part.thought_signature)
        elif part.thought:
            self._think(text or "", part.thought_signature)
        elif text is None or part.thought_signature is not None:
            self._other(part)
        elif text:
            self._say(text)

    def _say(self, text: str) -> None:
        if self._text_signature:  # what is signed ends there, and is to come back by itself
            self._end_text()
            self._machine.close()
        self._machine.text(text)
        if self._text_room > 0:
            self._text.append(text[: self._text_room])
        self._text_room -= len(text)
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
        if text and self._shows:
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


def read_whole(
    body: bytes, machine: BlockMachine, request: GeminiRequest, signatures: Signatures, *, last: bool = False
) -> GeminiReader:
    """Read an answer that was not streamed; then *machine* has the message. Return its reader.

    Raises :class:`~claudeproxyd.messages.reader.MalformedAnswer`, also of an error, and
    :class:`~claudeproxyd.messages.reader.ModelFault`.
    """
    reader = GeminiReader(machine, request, signatures, len(body), last=last)
    body = body.removeprefix(BOM_UTF8).strip()
    # Of an array each by itself: what is odd in one, and read loosely, leaves the bytes of the others as they are.
    error = reader.read(ElementSplitter(len(body)).feed(body) if body.startswith(b"[") else [body])
    if error is not None:
        raise ErrorAnswer(error)
    if not reader.end().ended:
        raise MalformedAnswer("an answer without an end")
    return reader
