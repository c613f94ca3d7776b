"""An admin listener in memory, and commands that ask it."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass
from typing import Any

from treq.testing import StubTreq
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from claudeproxyd.cli.admin import Admin, AdminCommand
from claudeproxyd.cli.command import CommandFailed
from claudeproxyd.cli.place import AdminPlace

PLACE = AdminPlace("http://127.0.0.1:8766", "key-of-the-operator")


@dataclass
class Asked:
    """One request that came."""

    method: str
    path: str
    query: dict[str, str]
    key: str | None
    body: Any


class FakeAdmin(Resource):
    """Answers as a test says, and notes what it was asked."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, tuple[int, bytes] | None] = {}
        """By path; None: never."""
        self.asked: list[Asked] = []

    def tell(self, path: str, answer: object, status: int = 200) -> None:
        """Answer so from now on."""
        self.answers[path] = status, json.dumps(answer).encode()

    def refuse(self, path: str, status: int, message: str) -> None:
        """Refuse in the form of all errors."""
        self.tell(path, {"type": "error", "error": {"type": "x", "message": message}, "request_id": "req_1"}, status)

    def render(self, request: IRequest) -> bytes | int:
        path = request.path.decode()
        body = request.content.read()
        self.asked.append(
            Asked(
                request.method.decode(),
                path,
                {name.decode(): values[0].decode() for name, values in request.args.items()},
                request.getHeader("authorization"),
                json.loads(body) if body else None,
            )
        )
        answer = self.answers.get(path, (404, b"nothing"))
        if answer is None:
            return NOT_DONE_YET
        request.setResponseCode(answer[0])
        return answer[1]


class CommandTestCase(SynchronousTestCase):
    """Runs commands against an admin listener in memory."""

    def setUp(self) -> None:
        self.admin = FakeAdmin()
        self.clock = Clock()
        self.out = io.StringIO()
        self.patch(sys, "stdout", self.out)

    def begin(self, command: AdminCommand, *argv: str, place: AdminPlace = PLACE) -> Deferred[int]:
        """Have *command* ask."""
        command.parseOptions(list(argv))
        http = StubTreq(self.admin)
        asking = ensureDeferred(command.ask(Admin(http, place, self.clock), self.clock))
        http.flush()
        return asking

    def ask(self, command: AdminCommand, *argv: str, place: AdminPlace = PLACE) -> str:
        """What it printed, having exited with 0."""
        self.assertEqual(self.successResultOf(self.begin(command, *argv, place=place)), 0)
        return self.out.getvalue()

    def fail_to_ask(self, command: AdminCommand, *argv: str, place: AdminPlace = PLACE) -> CommandFailed:
        """Why it failed."""
        return self.failureResultOf(self.begin(command, *argv, place=place), CommandFailed).value
