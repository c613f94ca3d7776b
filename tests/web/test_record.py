"""What the access log says of a request's end."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.observe.audit import audit_line
from claudeproxyd.observe.scrub import remember
from claudeproxyd.principals import Principal
from claudeproxyd.web.public import PublicRoot
from claudeproxyd.web.roles import Operator
from tests.web.support import BODY, AdminListener, Listener, get, post


class Outcomes(SynchronousTestCase):
    """One line a request, which says ``cancelled`` of those alone whose client left before the end."""

    def setUp(self) -> None:
        self.listener = Listener()

    def logged(self) -> list[tuple[int, str]]:
        """Status and outcome of each line."""
        return [(entry.status, entry.outcome) for entry in self.listener.log]

    def test_answered_here(self) -> None:
        """Answers of web's own, errors too, are not cancelled, nor when the client closes right after them."""
        connection = self.listener.connect()
        connection.ask(get("/healthz"))
        connection.ask(get("/nowhere"))
        connection.ask(post(body=b"{}"))
        connection.lose()
        self.assertEqual(self.logged(), [(200, ""), (404, ""), (400, "")])

    def test_what_is_counted(self) -> None:
        """Of the API alone: no probe, nothing that is lost, and no operator; each refusal by why."""
        listener = Listener(Principal("k", models=("other",)))
        listener.ask(get("/healthz"))
        listener.ask(get("/nowhere"))
        listener.ask(get("/v1/nowhere"))
        for key in ("k", "k2"):
            listener.ask(post("/v1/messages", BODY, f"x-api-key: {key}"))
        self.assertEqual([entry.refusal for entry in listener.log[-3:]], ["bad_request", "bad_request", "unknown_key"])
        told = listener.site.gateway.metrics.render().decode()
        asked = [line for line in told.splitlines() if line.startswith("claudeproxyd_requests_total{")]
        self.assertEqual(sum(float(line.rpartition(" ")[2]) for line in asked), 3)
        self.assertIn('claudeproxyd_refused_total{reason="unknown_key"} 1.0', told)
        self.assertIn('claudeproxyd_refused_total{reason="bad_request"} 2.0', told)
        admin = AdminListener(PublicRoot())
        admin.ask(get("/v1/nowhere"))
        self.assertIn(b'claudeproxyd_refused_total{reason="bad_request"} 0.0', admin.gateway.metrics.render())

    def test_secrets_are_masked(self) -> None:
        """What a client wrote into a path or a model's name by mistake is not in the line."""
        self.listener.ask(get("/v1/sk-ant-api03-AbCdEf_123-x"))
        self.listener.ask(post(body=b'{"model":"sk-ant-api03-AbCdEf_123-x","max_tokens":9,"messages":[]}'))
        for entry in self.listener.log:
            self.assertNotIn("AbCdEf", str(entry))
            self.assertIn("***", str(entry))

    def test_no_half_of_a_secret(self) -> None:
        """Nor is a part of it where there is no room for the rest: not in the line, the answer or the audit."""
        known = "planted-in-a-path-0123456789abcdef-0123456789abcdef"
        remember([known])
        admin = AdminListener(PublicRoot(), Operator("an-operator"))
        for before in range(100, 200, 10):
            path = f"/{'x' * before}{known}"
            for target in (path, f"/v1/models{path}", f"/v1/models?after_id={path}"):
                self.assertNotIn(b"planted-", self.listener.ask(get(target)).body)
                admin.ask(get(target))
        self.assertNotIn("planted-", "".join(map(str, self.listener.log)))
        self.assertNotIn("planted-", "".join(map(audit_line, admin.audit)))
        self.assertEqual(len(admin.audit), 20)

    def test_model_of_a_refusal(self) -> None:
        """A request that is refused here is told of with the model that it asked for, once that is known."""
        listener = Listener(Principal("k", models=("other",)))
        for key, told in (("k", (400, "m")), ("k2", (401, ""))):
            listener.ask(post("/v1/messages", BODY, f"x-api-key: {key}"))
            self.assertEqual((listener.log[-1].status, listener.log[-1].model), told)

    def test_refused_unread(self) -> None:
        """A body that is refused before it is read is told of once."""
        connection = self.listener.connect()
        connection.send(post().replace(b"Content-Length: ", b"Content-Length: 999999"))
        connection.send(b"x" * 100)
        connection.lose()
        self.assertEqual(self.logged(), [(413, "")])

    def test_left_while_sending(self) -> None:
        """A client that leaves in the middle of its body."""
        connection = self.listener.connect()
        connection.send(post()[:-5])
        connection.lose()
        self.assertEqual(self.logged(), [(0, "cancelled")])

    def test_left_while_waiting(self) -> None:
        """A client that leaves while dispatch serves it."""
        self.listener.dispatcher.hold = True
        connection = self.listener.connect()
        connection.send(post())
        connection.lose()
        self.assertEqual(self.logged(), [(0, "cancelled")])

    def test_left_after_the_answer(self) -> None:
        """A client that has its whole answer may go."""
        connection = self.listener.connect()
        connection.ask(post())
        connection.lose()
        self.assertEqual(self.logged(), [(200, "ok")])
