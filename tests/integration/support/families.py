"""Claude and Gemini as upstreams that a conversation goes to and fro between.

Each says what a test gives it, signs it as its API does, and refuses, in its API's words, what that would refuse. What
is written here is from the two APIs' pages and shares nothing with the daemon.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.golden.families.gemini import strict
from tests.integration.support import answers, gemini
from tests.integration.support.upstream import Answer, Exchange, Recorded

Json = dict[str, Any]

THREAD_NOT_FOUND = (
    b'{"type":"error","error":{"type":"not_found_error","message":"No usable Thread state was found",'
    b'"details":{"error_code":"thread_not_found"}},"request_id":"req_up"}'
)
SENTINEL = "skip_thought_signature_validator"
_ID = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)


class Refused(Exception):
    """What the API answers with a 400."""


class Unknown(Exception):
    """A thread that it does not have: a 404, by which clients know that they have to bring the whole conversation."""


class Side:
    """One upstream: ``upstream.script(side.answer)``."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        """Of all the requests for messages that it was sent."""
        self.counted: list[bytes] = []
        """Of those for a count."""
        self.refused: list[str] = []
        """Why it refused some."""
        self.given: list[list[Json]] = []
        """All that it said, signed."""
        self.counts: Answer
        """What it answers where it is asked for a count."""
        self._script: list[list[Json] | Answer] = []

    def says(self, *replies: list[Json] | Answer) -> None:
        """What it will say, request by request: the blocks of each; or whatever else it does."""
        self._script += replies

    @property
    def last(self) -> Any:
        """The body that it was sent last."""
        return json.loads(self.bodies[-1])

    async def answer(self, exchange: Exchange) -> None:
        """See :class:`Answer`."""
        is_count = exchange.request.path.partition("?")[0].endswith(("/count_tokens", ":countTokens"))
        (self.counted if is_count else self.bodies).append(exchange.request.body)
        try:
            self.judge(exchange.request, is_count)
        except Unknown:
            await answers.whole(THREAD_NOT_FOUND, 404)(exchange)
            return
        except (Refused, AssertionError) as refused:
            self.refused.append(str(refused))
            await self.refusal(str(refused))(exchange)
            return
        if is_count:
            await self.counts(exchange)
            return
        assert self._script, f"nothing to say to {exchange.request.line}"
        reply = self._script.pop(0)
        if isinstance(reply, list):
            self.given.append(self.signed(reply))
            await self.said(self.given[-1], exchange)
        else:
            await reply(exchange)

    def judge(self, request: Recorded, is_count: bool) -> None:
        """Raise Refused for what the API would refuse."""
        raise NotImplementedError

    def refusal(self, why: str) -> Answer:
        raise NotImplementedError

    def signed(self, said: list[Json]) -> list[Json]:
        raise NotImplementedError

    async def said(self, said: list[Json], exchange: Exchange) -> None:
        raise NotImplementedError


# Claude.


def thinking(text: str) -> Json:
    """A block or a part of thought; signed when it is said."""
    return {"type": "thinking", "thinking": text}


def text(words: str) -> Json:
    return {"type": "text", "text": words}


def use(name: str, **input: Any) -> Json:
    return {"type": "tool_use", "name": name, "input": input}


class Claude(Side):
    """The Messages API."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = answers.whole(b'{"input_tokens":31}')
        self._thoughts: dict[str, Json] = {}
        self._uses: dict[str, Json] = {}
        self._threads: dict[tuple[str, str], list[Json]] = {}
        """By the key, each of another organization, and an answer's id: the conversation up to it."""
        self.asked: list[Json] = []
        """The conversation that the last request came to."""
        self._number = itertools.count(1)

    def signed(self, said: list[Json]) -> list[Json]:
        """With signatures and ids; both have characters that JSON writers spell in different ways."""
        blocks = []
        for block in said:
            number = next(self._number)
            if block["type"] == "thinking":
                signature = base64.b64encode(f"Claude's signature {number} \x00\xff".encode()).decode() + "/+=="
                self._thoughts[signature] = block = {**block, "signature": signature}
            elif block["type"] == "tool_use":
                name = f"toolu_01Claude{number:016}"
                self._uses[name] = block = {"type": "tool_use", "id": name, **block}
            blocks.append(block)
        return blocks

    async def said(self, said: list[Json], exchange: Exchange) -> None:
        uses = any(block["type"] == "tool_use" for block in said)
        reason = "tool_use" if uses else "end_turn"
        request = exchange.request.json
        id = f"msg_01Claude{next(self._number):016}"
        if request.get("thread"):
            self._threads[exchange.request.key, id] = [*self.asked, {"role": "assistant", "content": said}]
        if request.get("stream"):
            await answers.stream(_frames(said, reason, id))(exchange)
        else:
            body = json.dumps(answers.message(id=id, content=said, stop_reason=reason), ensure_ascii=False)
            await answers.whole(body.encode())(exchange)

    def refusal(self, why: str) -> Answer:
        return answers.error(400, "invalid_request_error", why)

    def judge(self, request: Recorded, is_count: bool) -> None:
        body = request.json
        if b"cpxd1." in request.body:
            raise Refused("something that was minted for others")
        if not body["model"].startswith("claude-"):
            raise Refused(f"model: {body['model']}")
        thinks = body.get("thinking", {}).get("type", "disabled") not in ("disabled", "between_tools")
        for edit in body.get("context_management", {}).get("edits", []):
            if edit["type"].startswith("clear_thinking") and not thinks:
                raise Refused("`clear_thinking_20251015` strategy requires `thinking` to be enabled or adaptive")
        thread = body.get("thread") or {}
        if thread and "message-threads-2026-08-12" not in (request.header("anthropic-beta") or ""):
            raise Refused("thread: Extra inputs are not permitted")
        self.asked = body["messages"]
        if thread.get("type") == "continue":
            known = self._threads.get((request.key, thread["previous_message_id"]))
            if known is None:
                raise Unknown
            self.asked = [*known, *body["messages"]]
        turns = list(_turns(self.asked))
        if not turns or turns[0][0] != "user":
            raise Refused('messages: first message must use the "user" role')
        if turns[-1][0] != "user":
            raise Refused("This model does not support assistant message prefill")
        for number, (role, blocks) in enumerate(turns):
            for position, block in enumerate(blocks):
                self._judge_block(block, role, f"messages.{number}.content.{position}")
        _judge_pairs(turns)
        if body.get("thinking", {}).get("type") == "enabled":
            _judge_thinking_first(turns)

    def _judge_block(self, block: Json, role: str, place: str) -> None:
        match block["type"]:
            case "text" if not block["text"].strip():
                raise Refused("messages: text content blocks must contain non-whitespace text")
            case "thinking":
                if role != "assistant" or _bare(block) != self._thoughts.get(block["signature"]):
                    raise Refused(f"{place}: Invalid `signature` in `thinking` block")
            case "tool_use":
                if not _ID.fullmatch(block["id"]):
                    raise Refused(f"{place}.tool_use.id: String should match pattern, at most 40")
                if _bare(block) != self._uses.get(block["id"], _bare(block)):
                    raise Refused(f"{place}: not what was said: {block}")
            case "text" | "tool_result" | "image" if not block.get("citations"):
                pass
            case _ if _bare(block) not in (given for said in self.given for given in said):
                raise Refused(f"{place}: this API did not say so: {block}")


def _turns(messages: Sequence[Json]) -> Iterator[tuple[str, list[Json]]]:
    """As the API reads messages: those of one role in a row are one turn."""
    for number, message in enumerate(messages):
        content = message["content"]
        if not content and message["role"] != "system":
            raise Refused(f"messages.{number}: all messages must have non-empty content")
    spoken = [message for message in messages if message["role"] != "system"]
    for role, alike in itertools.groupby(spoken, lambda message: message["role"]):
        if role not in ("user", "assistant"):
            raise Refused(f"messages: unexpected role {role}")
        contents = [message["content"] for message in alike]
        yield role, [b for each in contents for b in ([text(each)] if isinstance(each, str) else each)]


def _judge_pairs(turns: Sequence[tuple[str, list[Json]]]) -> None:
    """Every call has its result in the next turn, which they begin; every result its call."""
    asked: list[str] = []
    seen: set[str] = set()
    for number, (role, blocks) in enumerate(turns):
        if role == "assistant":
            asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
            if len({*asked}) < len(asked) or seen & {*asked}:
                raise Refused(f"messages.{number}: `tool_use` ids must be unique")
            seen |= {*asked}
            continue
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        first = [block["type"] for block in blocks[: len(results)]]
        if sorted(results) != sorted(asked):
            raise Refused(f"messages.{number}: `tool_use` ids were found without `tool_result` blocks, or the reverse")
        if first != ["tool_result"] * len(results):
            raise Refused(f"messages.{number}: `tool_result` blocks must come first")
        asked = []


def _judge_thinking_first(turns: Sequence[tuple[str, list[Json]]]) -> None:
    """Of thinking with a budget: in a tool loop the assistant's last turn begins with it."""
    if turns[-1][1][0]["type"] == "tool_result":
        first = turns[-2][1][0]["type"]
        if first not in ("thinking", "redacted_thinking"):
            raise Refused(
                f"messages.{len(turns) - 2}.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
                f"`{first}`. When `thinking` is enabled, a final `assistant` message must start with a thinking block"
            )


def _bare(block: Json) -> Json:
    return {name: value for name, value in block.items() if name != "cache_control"}


def _frames(said: Sequence[Json], reason: str, id: str) -> list[bytes]:
    """A whole stream that says *said*, each block in two pieces."""
    empty_message = answers.message(id=id, content=[], stop_reason=None)
    frames = [answers.frame({"type": "message_start", "message": empty_message})]
    for index, block in enumerate(said):
        match block["type"]:
            case "text":
                empty: Json = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": piece} for piece in _halves(block["text"])]
                deltas += [{"type": "citations_delta", "citation": each} for each in block.get("citations", [])]
            case "thinking":
                empty = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _halves(block["thinking"])]
                deltas.append({"type": "signature_delta", "signature": block["signature"]})
            case "redacted_thinking" | "web_search_tool_result":
                empty, deltas = block, []
            case _:
                empty = {**block, "input": {}}
                pieces = _halves(json.dumps(block["input"]))
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        frames.append(answers.frame({"type": "content_block_start", "index": index, "content_block": empty}))
        for delta in deltas:
            frames.append(answers.frame({"type": "content_block_delta", "index": index, "delta": delta}))
        frames.append(answers.frame({"type": "content_block_stop", "index": index}))
    return [*frames, *answers.end_frames(reason)[1:]]


def _halves(words: str) -> list[str]:
    middle = len(words) // 2
    return [piece for piece in (words[:middle], words[middle:]) if piece]


# Gemini.


class Gemini(Side):
    """``generateContent`` of one model. It is told what to say in Claude's words; :func:`thinking` and so on."""

    def __init__(self, model: str, signs: bool = True, counts_calls: bool = False) -> None:
        """*counts_calls*: calls have ids, from ``call_0`` on anew in every answer."""
        super().__init__()
        self.counts = gemini.whole({"totalTokens": 41})
        self.model = model
        self._signs = signs
        self._counts_calls = counts_calls
        self._validates = not model.startswith("gemini-2")
        self.signatures: dict[str, Json] = {}
        """By signature the part that it was given with."""
        self._number = itertools.count(1)

    def signed(self, said: list[Json]) -> list[Json]:
        """In parts; the first call has the signature, or else the end of the text."""
        parts = [_part(block) for block in said]
        if self._counts_calls:
            for number, call in enumerate(part["functionCall"] for part in parts if "functionCall" in part):
                call["id"] = f"call_{number}"
        if not self._signs:
            return parts
        signature = base64.b64encode(f"Gemini's {next(self._number)} \x00\xff\xfe".encode("latin-1")).decode()
        first = next((part for part in parts if "functionCall" in part), None)
        if first is not None:
            first["thoughtSignature"] = signature
        elif self._validates:
            said_last = parts[-1]
            parts.append({"text": "", "thoughtSignature": signature})
            first = said_last
        if first is not None:
            self.signatures[signature] = first
        return parts

    async def said(self, said: list[Json], exchange: Exchange) -> None:
        await gemini.saying(*said)(exchange)

    def refusal(self, why: str) -> Answer:
        return gemini.error(400, "INVALID_ARGUMENT", why)

    def judge(self, request: Recorded, is_count: bool) -> None:
        body = request.json
        if b"cpxd1." in request.body:
            raise Refused("something minted, unread")
        if f"/models/{self.model}:" not in request.path:
            raise Refused(f"model: {request.path}")
        if is_count:
            body = body["generateContentRequest"]
            if body.pop("model") != f"models/{self.model}":
                raise Refused("another model")
        strict.check_request(body, False)
        contents = body["contents"]
        if contents[-1]["role"] != "user":
            raise Refused("Please ensure that the conversation ends with a user turn")
        _judge_responses(contents)
        present = _present(contents)
        for number, content in enumerate(contents):
            calls = [part for part in content["parts"] if "functionCall" in part]
            for part in content["parts"]:
                self._judge_signature(part, number > present)
            if self._validates and calls and number > present and "thoughtSignature" not in calls[0]:
                name = calls[0]["functionCall"]["name"]
                raise Refused(f"Function call `{name}` in the {number}. content block is missing a `thought_signature`")

    def _judge_signature(self, part: Json, in_present_turn: bool) -> None:
        """Its own come back on the parts that they were given with, and others do not come."""
        signature = part.get("thoughtSignature")
        was = {name: value for name, value in part.items() if name != "thoughtSignature"}
        own = next((each for each, given in self.signatures.items() if _same(given, was)), None)
        if signature == SENTINEL:
            if own or not in_present_turn or not self._validates or "functionCall" not in part:
                raise Refused(f"the sentinel in a place where it need not be: {part}")
        elif signature != own:
            raise Refused(f"Thought signature is not valid: {part}, not {own}")


def _part(block: Json) -> Json:
    match block["type"]:
        case "thinking":
            return {"text": block["thinking"], "thought": True}
        case "text":
            return {"text": block["text"]}
        case _:
            return {"functionCall": {"name": block["name"], "args": block["input"]}}


def _same(given: Json, part: Json) -> bool:
    """Ids are the daemon's where the API gave none."""
    if "functionCall" in given and "functionCall" in part:
        one, other = given["functionCall"], part["functionCall"]
        return (one["name"], one["args"]) == (other["name"], other["args"])
    return bool(given.get("text")) and given.get("text") == part.get("text") and not part.get("thought")


def _judge_responses(contents: Sequence[Json]) -> None:
    """As many responses as there were calls, of those names and ids, in that order, and nothing beside them."""
    asked: list[tuple[str, str]] = []
    for content in contents:
        if 0 < sum("functionResponse" in part for part in content["parts"]) < len(content["parts"]):
            raise Refused("Requests ending with a model turn are not supported")
        calls, responses = (
            [(part[kind]["name"], part[kind]["id"]) for part in content["parts"] if kind in part]
            for kind in ("functionCall", "functionResponse")
        )
        if responses != asked:
            raise Refused(
                "Please ensure that the number of function response parts is equal to the number of function call "
                f"parts of the function call turn: {asked} {responses}"
            )
        asked = calls


def _present(contents: Sequence[Mapping[str, Any]]) -> int:
    """Where the user spoke last; what only answers calls is no speech."""
    for number in range(len(contents) - 1, -1, -1):
        if contents[number]["role"] == "user" and "functionResponse" not in contents[number]["parts"][0]:
            return number
    return -1
