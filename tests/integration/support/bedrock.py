"""Amazon Bedrock as a scripted upstream, which boto3 and Anthropic's own client for Bedrock take for the real one.

It refuses what Bedrock refuses: a signature that AWS's own library does not make of the same request, a beta or a
member that InvokeModel does not know, what Converse's own model does not allow. It shares nothing with the daemon.
"""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.executors.bedrock.invoke_model import fault
from tests.framing.event_messages import chunk, event, exception
from tests.golden.families.converse import strict
from tests.integration.support import answers
from tests.integration.support.upstream import Answer, Exchange, Recorded, Upstream

Json = dict[str, Any]

OPUS = "us.anthropic.claude-opus-5-5"
#: Whatever Claude model is asked for, the provider ``up`` answers as this one.
AS_OPUS = f'[[models]]\nname = "*"\nroutes = [{{ provider = "up", model = "{OPUS}" }}]\n'
#: The same as another maker's models.
NOVA, GPT = "us.amazon.nova-2-lite-v1:0", "us.openai.gpt-5.6-sol"
AS_NOVA, AS_GPT = (AS_OPUS.replace(OPUS, model) for model in (NOVA, GPT))
SECRETS = {"AKIDEXAMPLE": "wJalrXUtnFEMI", "AKIDOTHER": "other/secret+key"}
ROLE_SECRET = "secret-of-a-role"
METRICS = {"inputTokenCount": 11, "outputTokenCount": 2, "invocationLatency": 9, "firstByteLatency": 4}

_STREAM = {"content-type": "application/vnd.amazon.eventstream", "x-amzn-requestid": "r-stream"}


def section(url: str, *credentials: str, more: str = "") -> str:
    """The provider ``up``; each of *credentials* is the lines of one, a key pair of its own unless told."""
    text = f'[[providers]]\nname = "up"\nkind = "bedrock"\nbase_url = "{url}"\n{more}\n'
    for number, lines in enumerate(credentials or (pair(),)):
        text += f'[[providers.credentials]]\nname = "c{number}"\nregion = "us-east-1"\n{lines}\n'
    return text


def pair(access: str = "AKIDEXAMPLE") -> str:
    """The line of a credential with that key pair."""
    return f'aws = {{ access_key_id = "{access}", secret_access_key = "{SECRETS[access]}" }}'


# What it answers.


def refusal(status: int, name: str, words: str) -> Answer:
    """An error as AWS writes it."""
    headers = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
    return answers.whole(json.dumps({"message": words}).encode(), status, headers)


def packed(frames: Iterable[bytes], *, metrics: bool = True) -> list[bytes]:
    """Frames of server-sent events as Bedrock sends them: each in a chunk, with its padding; figures in the last."""
    parts = []
    for number, frame in enumerate(frames):
        event = frame.partition(b"data: ")[2].strip()
        if metrics and b'"message_stop"' in event:
            own = {**json.loads(event), "amazon-bedrock-invocationMetrics": METRICS}
            event = json.dumps(own, separators=(",", ":")).encode()
        parts.append(chunk(event, p="abcdefghijklmnopqrstuvwxyz"[: number % 26]))
    return parts


def stream(frames: Iterable[bytes] | None = None, **options: Any) -> Answer:
    """A stream of these events, a whole message unless told; see :func:`.answers.stream`."""
    parts = packed(answers.frames() if frames is None else frames)
    return answers.stream(parts, headers=_STREAM, **options)


def conversed(*blocks: Json, reason: str = "end_turn") -> Answer:
    """What Converse says, whole or streamed as it is asked: ``{"text": …}``, ``{"toolUse": …}`` and so on."""
    usage = {"inputTokens": 11, "outputTokens": 2, "totalTokens": 13}
    message = {"role": "assistant", "content": list(blocks)}
    whole = {"output": {"message": message}, "stopReason": reason, "usage": usage, "metrics": {"latencyMs": 9}}
    parts = [event("messageStart", {"role": "assistant", "p": "abc"})]
    for index, block in enumerate(blocks):
        start, deltas = _in_pieces(block)
        if start:
            parts.append(event("contentBlockStart", {"start": start, "contentBlockIndex": index}))
        parts += [event("contentBlockDelta", {"delta": each, "contentBlockIndex": index}) for each in deltas]
        parts.append(event("contentBlockStop", {"contentBlockIndex": index}))
    parts.append(event("messageStop", {"stopReason": reason}))
    parts.append(event("metadata", {"usage": usage, "metrics": {"latencyMs": 9}}))

    async def answer(exchange: Exchange) -> None:
        streamed = exchange.request.path.endswith("/converse-stream")
        await (answers.stream(parts, headers=_STREAM) if streamed else answers.whole(json.dumps(whole).encode()))(
            exchange
        )

    return answer


def _in_pieces(block: Json) -> tuple[Json | None, list[Json]]:
    """How a stream begins a block, and what it says of it."""
    if "toolUse" in block:
        call = block["toolUse"]
        told = json.dumps(call["input"])
        start = {"toolUse": {"toolUseId": call["toolUseId"], "name": call["name"]}}
        return start, [{"toolUse": {"input": piece}} for piece in (told[:5], told[5:])]
    if "reasoningContent" in block:
        thought = block["reasoningContent"]["reasoningText"]
        said = [{"reasoningContent": {"text": thought["text"]}}]
        if "signature" in thought:
            said.append({"reasoningContent": {"signature": thought["signature"]}})
        return None, said
    return None, [{"text": piece} for piece in (block["text"][:3], block["text"][3:]) if piece]


def failing(kind: str, words: str, frames: Iterable[bytes] = (), **options: Any) -> Answer:
    """A stream of these events that ends with an exception; see :func:`.answers.stream`."""
    return answers.stream([*packed(frames), exception(kind, words)], headers=_STREAM, **options)


def broken(frames: Iterable[bytes], *then: Answer) -> Answer:
    """A stream of these events, which the other side has read when something else comes; a cut if nothing is told."""
    return answers.then(stream(frames, end=False, apart=True), *(then or [answers.cut(b"")]))


def saying(whole: Answer, streamed: Answer, counted: int = 21) -> Answer:
    """The one or the other, as the operation wants; a count where tokens are to be counted."""

    async def answer(exchange: Exchange) -> None:
        match exchange.request.path.rpartition("/")[2]:
            case "count-tokens":
                await answers.whole(json.dumps({"inputTokens": counted}).encode())(exchange)
            case "invoke":
                await whole(exchange)
            case _:
                await streamed(exchange)

    return answer


def usual() -> Answer:
    """What it answers when it is well."""
    return saying(answers.whole(headers={"x-amzn-requestid": "r-whole"}), stream())


# What it is asked.


def invoked(request: Recorded) -> Json:
    """The body of InvokeModel, also of one that is only to be counted."""
    body: Json = request.json
    if request.path.endswith("/count-tokens"):
        body = json.loads(base64.b64decode(body["input"]["invokeModel"]["body"]))
    return body


def model_of(request: Recorded) -> str:
    """The model that was asked for."""
    return unquote(request.path.split("/")[2])


def _signature_fault(request: Recorded, secrets: Mapping[str, tuple[str, str | None]], now: float) -> str:
    """Why AWS would not take the signature; '' if it would."""
    given = request.header("authorization") or ""
    if given.startswith("Bearer "):
        return ""
    fields = dict(each.strip().split("=", 1) for each in given.removeprefix("AWS4-HMAC-SHA256 ").split(","))
    access, _, region, service, _ = fields["Credential"].split("/")
    if access not in secrets:
        return "The security token included in the request is invalid."
    secret, token = secrets[access]
    if request.header("x-amz-security-token") != token:
        return "The security token included in the request is invalid."
    names = fields["SignedHeaders"].split(";")
    unsigned = {name for name, _ in request.headers if name.startswith("x-amz-")} - {*names}
    if unsigned or "host" not in names:
        return f"not signed: {unsigned}"
    moment = datetime.datetime.strptime(request.header("x-amz-date") or "", "%Y%m%dT%H%M%SZ")
    if abs(moment.replace(tzinfo=datetime.UTC).timestamp() - now) > 300:
        return "Signature expired: it is of another time"
    left = ("host", "x-amz-date", "x-amz-security-token")
    asked: Any = AWSRequest(
        request.line.split(" ")[0],
        f"http://{request.header('host')}{request.path}",
        headers={name: request.header(name) for name in names if name not in left},
        data=request.body,
    )
    with patch("botocore.auth.get_current_datetime", return_value=moment):
        SigV4Auth(Credentials(access, secret, token), service, region).add_auth(asked)
    if asked.headers["Authorization"] != given:
        return f"The request signature we calculated does not match: {asked.headers['Authorization']} {given}"
    return ""


def _body_fault(request: Recorded) -> str:
    """Why Bedrock refuses a body; '' if it does not."""
    if "/converse" not in request.path:
        return fault(invoked(request))
    try:
        strict.check_request(request.json, model_of(request))
    except AssertionError as refused:
        return str(refused) or "refused"
    return ""


class Bedrock(Upstream):
    """The upstream, and beside it all that gives keys of a role: STS, a container's endpoint, a machine's metadata."""

    def __init__(self, now: Any) -> None:
        super().__init__()
        self._now = now
        self.secrets: dict[str, tuple[str, str | None]] = {name: (secret, None) for name, secret in SECRETS.items()}
        self.refused: list[str] = []
        """Why it refused some requests."""
        self.roles: list[dict[str, str]] = []
        """The forms, or the tokens, of those who asked for keys of a role."""

    def answer_for(self, exchange: Exchange) -> Answer:
        """See :class:`Upstream`."""
        request = exchange.request
        if request.path == "/":
            return self._of_sts(request)
        if request.path == "/container" or request.path.startswith("/latest/"):
            return self._told(request)
        answer = super().answer_for(exchange)
        if why := _signature_fault(request, self.secrets, self._now()):
            self.refused.append(why)
            return refusal(403, "UnrecognizedClientException", why)
        if why := _body_fault(request):
            self.refused.append(why)
            return refusal(400, "ValidationException", why)
        return answer

    def _of_sts(self, request: Recorded) -> Answer:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        access, token, until = self._new_keys(form)
        return answers.whole(
            f"<{form['Action']}Response><{form['Action']}Result><Credentials><AccessKeyId>{access}</AccessKeyId>"
            f"<SecretAccessKey>{ROLE_SECRET}</SecretAccessKey><SessionToken>{token}</SessionToken>"
            f"<Expiration>{until}</Expiration></Credentials></{form['Action']}Result></{form['Action']}Response>".encode(),
            headers={"content-type": "text/xml"},
        )

    def _told(self, request: Recorded) -> Answer:
        """What a container's endpoint and IMDSv2 say."""
        roles = "/latest/meta-data/iam/security-credentials/"
        token = request.header("authorization") or request.header("x-aws-ec2-metadata-token") or ""
        if request.line.startswith("PUT /latest/api/token "):
            return answers.whole(b"imds-token")
        if not token:
            return answers.whole(b"", 401)
        if request.path == roles:
            return answers.whole(b"some-role")
        access, session, until = self._new_keys({"token": token})
        keys = {"AccessKeyId": access, "SecretAccessKey": ROLE_SECRET, "Token": session, "Expiration": until}
        return answers.whole(json.dumps({"Code": "Success", **keys}).encode())

    def _new_keys(self, asked: dict[str, str]) -> tuple[str, str, str]:
        """Keys of a role that are good from now on: an id, a session's token, when they end."""
        self.roles.append(asked)
        number = len(self.roles)
        access, token = f"ASIAROLE{number}", f"token//{number}=="
        self.secrets = {**self.secrets, access: (ROLE_SECRET, token)}
        until = datetime.datetime.fromtimestamp(self._now() + 3600, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return access, token, until
